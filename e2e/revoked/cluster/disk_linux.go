package cluster

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// diskBytes is the size of a disk that can be filled.
const diskBytes = 32 << 20

// mountDisk puts a small disk at dir.
func mountDisk(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", diskBytes)); err != nil {
		return fmt.Errorf("mount a disk at %s: %w", dir, err)
	}
	return nil
}

func unmountDisk(dir string) error {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}
