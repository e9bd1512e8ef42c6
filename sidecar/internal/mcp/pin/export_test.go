package pin

// Held returns how many tools are remembered.
func (l *Lists) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}
