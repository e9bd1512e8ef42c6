package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// able says what is missing to make namespaces, if something is.
func able() error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w; Debian has it in iproute2 and nftables", err)
		}
	}
	return nil
}

// within runs f on a thread that is in the namespace at path.
func within(path string, f func() error) (err error) {
	there, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = there.Close() }() // only to be entered
	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = here.Close() }() // only to be entered
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", path, err)
	}
	err = f()
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, and so it ends with its goroutine and is never
		// used for anything else.
		return errors.Join(err, fmt.Errorf("leave %s: %w", path, back))
	}
	runtime.UnlockOSThread()
	return err
}
