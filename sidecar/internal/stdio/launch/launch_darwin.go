package launch

import (
	"os"
	"strconv"
	"syscall"
)

// attributes are how a server is started: as the first of its own process
// group. The system kills no child with its parent: servers see the end of
// their input when the sidecar is killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// KeepDescriptors sees to it that no descriptor passes on to a server that the
// sidecar itself was started with: all that it opens do not anyway.
func KeepDescriptors() error {
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		return err
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}

// awaitExit reports that it cannot wait without reaping.
func awaitExit(int) bool { return false }
