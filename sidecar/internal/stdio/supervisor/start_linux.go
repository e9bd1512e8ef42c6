package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long a supervisor may take to start a server.
	patience = 30 * time.Second
	// self is this very program, whatever has become of its file.
	self = "/proc/self/exe"
)

// A Server was started under a supervisor of its own. Who started it must Wait.
type Server struct {
	supervisor *exec.Cmd
	control    *os.File
	reports    *json.Decoder
	pid        int

	writing sync.Mutex // held while something is written to control
}

// Start starts a server as os.StartProcess does, as the first of a process group
// of its own. Of attr.Sys it takes the credential. The calling thread must last
// as long as the sidecar. An error that wraps ErrNone does not lie with the
// server.
func Start(path string, args []string, attr *os.ProcAttr) (*Server, error) {
	if !asked.Load() {
		return nil, fmt.Errorf("%w: this program does not ask whether it is one", ErrNone)
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: make a socket: %w", ErrNone, err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "control")
	err = unix.SetNonblock(ends[0], true) // so that it has deadlines
	s := &Server{control: os.NewFile(uintptr(ends[0]), "control")}
	s.reports = json.NewDecoder(s.control)
	s.supervisor = &exec.Cmd{
		Path: self, Args: []string{"reeve-sidecar", argument},
		Dir: "/", Env: []string{"GOMAXPROCS=1"},
		Stderr:     os.Stderr, // it says nothing unless it crashes
		ExtraFiles: append([]*os.File{theirs}, attr.Files...),
		// It ends when it reads the end of the socket, for which it must not be
		// stopped.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGCONT},
	}
	if err == nil {
		err = s.supervisor.Start()
	}
	_ = theirs.Close() // a socket
	if err != nil {
		_ = s.control.Close()
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	o := line{Path: []byte(path), Dir: []byte(attr.Dir), Args: toBytes(args), Env: toBytes(attr.Env)}
	if attr.Sys != nil {
		o.As = attr.Sys.Credential
	}
	if err := s.begin(path, &o); err != nil {
		_ = s.supervisor.Process.Kill() // it may have ended
		_ = s.supervisor.Wait()         // it has started nothing
		_ = s.control.Close()
		return nil, err
	}
	return s, nil
}

// begin has the supervisor start the server.
func (s *Server) begin(path string, o *line) error {
	if err := s.control.SetDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	var r report
	err := json.NewEncoder(s.control).Encode(order{Start: o})
	if err == nil {
		err = s.reports.Decode(&r)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNone, err)
	case r.Errno != 0:
		return &os.PathError{Op: "fork/exec", Path: path, Err: r.Errno}
	}
	s.pid = r.PID
	return s.control.SetDeadline(time.Time{})
}

// PID returns the number of the server's first process, and of its group.
func (s *Server) PID() int { return s.pid }

// Signal has the supervisor send a signal to the server's group; if it is
// SIGKILL, to every process there is of the server.
func (s *Server) Signal(signal syscall.Signal) {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.supervisor.Process.Signal(syscall.SIGCONT) // somebody may have stopped it
	_ = s.control.SetWriteDeadline(time.Now().Add(time.Second))
	_ = json.NewEncoder(s.control).Encode(order{Signal: signal}) // it may have ended
}

// Wait waits until the server and all its processes have ended, and returns how
// its first one did. If an error comes with that, not all have.
func (s *Server) Wait() (how string, err error) {
	var ended *syscall.WaitStatus
	left := 0
	for {
		var r report
		if s.reports.Decode(&r) != nil {
			break
		}
		if r.Ended != nil {
			ended = r.Ended
		}
		left += r.Left
	}
	err = s.supervisor.Wait()
	_ = s.control.Close() // a socket
	var exit *exec.ExitError
	switch {
	case err == nil && left > 0:
		err = fmt.Errorf("%d of its processes could not be killed: they are not its user's any more", left)
	case errors.As(err, &exit):
		err = fmt.Errorf("its supervisor ended: %s; processes that left its group may be running", exit.ProcessState)
	}
	switch {
	case ended != nil:
		return describe(*ended), err
	case left > 0:
		return "not killed", err
	}
	// The kernel has killed its first process.
	_ = syscall.Kill(-s.pid, syscall.SIGKILL)
	return "its supervisor ended", err
}

// describe says of a status what os.ProcessState says of it.
func describe(status syscall.WaitStatus) string {
	switch {
	case status.Exited():
		return fmt.Sprintf("exit status %d", status.ExitStatus())
	case status.CoreDump():
		return fmt.Sprintf("signal: %s (core dumped)", status.Signal())
	}
	return "signal: " + status.Signal().String()
}
