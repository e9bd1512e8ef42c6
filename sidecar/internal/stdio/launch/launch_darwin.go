package launch

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// A direct child is one without a supervisor. The system kills no child with its
// parent: servers see the end of their input when the sidecar is killed.
type direct struct {
	process *os.Process

	mu     sync.Mutex // held while it is reaped or sent a signal
	reaped bool
}

func startChild(path string, args []string, attr *os.ProcAttr) (child, error) {
	process, err := os.StartProcess(path, args, attr)
	if err != nil {
		return nil, err
	}
	return &direct{process: process}, nil
}

func (d *direct) PID() int { return d.process.Pid }

func (d *direct) Signal(signal syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.reaped {
		_ = syscall.Kill(-d.PID(), signal) // all of it may have ended
	}
}

func (d *direct) Wait() (how string, err error) {
	state, err := d.process.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reaped = true
	_ = syscall.Kill(-d.PID(), syscall.SIGKILL) // what is left of its group
	if err != nil {
		return "", fmt.Errorf("await its end: %w", err)
	}
	return state.String(), nil
}

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
