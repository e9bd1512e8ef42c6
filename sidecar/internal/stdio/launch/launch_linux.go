package launch

import (
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/reeve-authz/reeve/sidecar/internal/stdio/supervisor"
)

// startChild starts a server under a supervisor, which sees to it that nothing of
// the server outlives it, or the sidecar.
func startChild(path string, args []string, attr *os.ProcAttr) (child, error) {
	s, err := supervisor.Start(path, args, attr)
	if err != nil {
		return nil, err // not a child that is nil
	}
	return s, nil
}

// KeepDescriptors sees to it that no descriptor passes on to a server that the
// sidecar itself was started with: all that it opens do not anyway.
func KeepDescriptors() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	open, err := os.ReadDir("/proc/self/fd") // the kernel is older than 5.11
	if err != nil {
		return err
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
