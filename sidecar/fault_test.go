//go:build reeve_fault

package sidecar

import (
	"os"
	"testing"
)

// TestBeginsAgain by the wall clock of a build for tests, to be run alone and with
// REEVE_CLOCK_OFFSETS naming a file that can be written.
func TestBeginsAgainByTheWallClock(t *testing.T) {
	path := os.Getenv("REEVE_CLOCK_OFFSETS")
	if path == "" {
		t.Skip("REEVE_CLOCK_OFFSETS is not set")
	}
	m := newMachine(t)
	eventually(t, "ready", func() bool { return m.ready(t) })
	for _, offsets := range []string{"-10s 0s", "1h 0s", "1h 5m"} {
		old := m.sidecar.boot.Load()
		if err := os.WriteFile(path+".new", []byte(offsets), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another boot after "+offsets, func() bool { return m.sidecar.boot.Load() != old })
		eventually(t, "ready again", func() bool { return m.ready(t) })
	}
}
