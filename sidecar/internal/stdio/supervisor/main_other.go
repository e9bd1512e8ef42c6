//go:build !linux

package supervisor

// Main fails: only Linux gives a process the children of others.
func Main() (code int) { return 2 }
