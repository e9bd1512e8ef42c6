package pin

// Held returns how many tools are remembered.
func (l *Lists) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// Passed returns how many items are remembered to have passed.
func (l *Lists) Passed() int {
	l.passed.mu.Lock()
	defer l.passed.mu.Unlock()
	return len(l.passed.sums)
}
