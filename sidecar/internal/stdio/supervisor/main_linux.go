package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The descriptors that a supervisor is started with, besides the usual ones.
const (
	control = 3 + iota
	serverIn
	serverOut
	serverProblems
)

const (
	// pause is how long what was killed may take before it is looked at again.
	pause = 5 * time.Millisecond
	// refusals is how often in a row killing all that is left may be refused
	// before it is left.
	refusals = 400
)

// Main is the supervisor. It returns the exit code of the program.
func Main() (code int) {
	// The kernel kills the server when the thread that started it ends, which is
	// when the supervisor does.
	runtime.LockOSThread()
	if _, err := unix.GetsockoptInt(control, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		fmt.Fprintln(os.Stderr, "error: only a sidecar can use this command: it starts its servers by it")
		return 2
	}
	for fd := control; fd <= serverProblems; fd++ {
		unix.CloseOnExec(fd)
	}
	// What ends others does not end it: the sidecar does. A signal that is
	// received is not one that is ignored, which the server would inherit.
	signal.Notify(make(chan os.Signal, 1))
	_ = os.WriteFile("/proc/self/comm", []byte("reeve-supervise"), 0) // or it is called exe
	if err := supervise(os.NewFile(control, "control")); err != nil {
		fmt.Fprintln(os.Stderr, "error: supervise a server:", err)
		return 1
	}
	return 0
}

// supervise starts a server, and returns when there is nothing left of it.
func supervise(sidecar *os.File) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	orders := json.NewDecoder(sidecar)
	var first order
	if err := orders.Decode(&first); err != nil || first.Start == nil {
		return fmt.Errorf("read what to start: %w", err)
	}
	f := &family{reports: json.NewEncoder(sidecar)}
	if err := f.begin(first.Start); err != nil {
		return fmt.Errorf("start it: %w", err)
	}
	if f.server == 0 {
		return nil // the sidecar knows why
	}
	signals := make(chan syscall.Signal)
	go func() {
		defer close(signals)
		for {
			var next order
			if orders.Decode(&next) != nil {
				return
			}
			signals <- next.Signal
		}
	}()
	ends := make(chan struct{})
	go func() {
		for awaitEnd() {
			ends <- struct{}{}
		}
	}()
	for f.server != 0 {
		select {
		case s, ok := <-signals:
			if !ok || s == syscall.SIGKILL {
				return f.end()
			}
			_ = syscall.Kill(-f.server, s) // all of it may have ended
		case <-ends:
			f.reap()
		}
	}
	return f.end()
}

// A family is a server and its processes. One goroutine reaps them and sends them
// signals, so that no number it sends one to can be another's meanwhile.
type family struct {
	reports *json.Encoder
	server  int // 0 if it is not running
}

// begin starts the server and reports how that went.
func (f *family) begin(l *line) error {
	pid, err := syscall.ForkExec(string(l.Path), toText(l.Args), &syscall.ProcAttr{ //nolint:gosec // the sidecar says so
		Dir: string(l.Dir), Env: toText(l.Env), Files: []uintptr{serverIn, serverOut, serverProblems},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: l.As},
	})
	for fd := serverIn; fd <= serverProblems; fd++ {
		_ = unix.Close(fd) // a pipe
	}
	if err != nil {
		r := report{Errno: syscall.EINVAL}
		_ = errors.As(err, &r.Errno)
		return f.reports.Encode(r)
	}
	f.server = pid
	_ = f.reports.Encode(report{PID: pid}) // if nobody reads it, it is ended next
	return nil
}

// awaitEnd waits until a child has ended, leaves it to be reaped, and reports
// whether there are children.
func awaitEnd() bool {
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// reap reaps all children that have ended, and reports whether there are others.
func (f *family) reap() (others bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, unix.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return false
		case pid == 0:
			return true
		case pid == f.server:
			f.server = 0
			_ = f.reports.Encode(report{Ended: &status}) // to whom is still there
		}
	}
}

// end kills all processes of the server. It kills only children, whose numbers
// nobody else can have: when they have ended, theirs are the supervisor's.
func (f *family) end() error {
	var before []int
	for times := 0; ; {
		now, err := f.children()
		refused := 0
		for _, pid := range now {
			_ = syscall.Kill(-pid, syscall.SIGKILL) // the group that it leads at once, if it leads one
			if syscall.Kill(pid, syscall.SIGKILL) != nil {
				refused++
			}
		}
		if !f.reap() {
			return nil
		}
		if !slices.Equal(now, before) { // there may be ever new ones: be quick
			before, times = now, 0
			continue
		}
		if times++; refused == len(now) && times > refusals {
			_ = f.reports.Encode(report{Left: max(refused, 1)}) // to whom is still there
			return err
		}
		time.Sleep(pause)
	}
}
