//go:build !reeve_fault

package fault

import "time"

// Off reports whether a mechanism is switched off: it never is.
func Off(Mechanism) bool { return false }

// Stall holds the caller up at a point: it never does.
func Stall(Point) {}

// Refuses reports whether a sidecar refuses a resource that it is sent: none for
// its name.
func Refuses(string) bool { return false }

// WallOffset is added to every reading of the wall clock: nothing.
func WallOffset() time.Duration { return 0 }

// BootOffset is added to every reading of CLOCK_BOOTTIME: nothing.
func BootOffset() time.Duration { return 0 }
