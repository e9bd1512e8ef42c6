package sidecar

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the file for as long as it stays open in this process.
func lockFile(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
