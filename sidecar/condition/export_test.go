package condition

// Templates returns the number of templates that are remembered.
func (c *Compiler) Templates() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.templates)
}
