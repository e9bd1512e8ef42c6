package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Process is a program that can be started, killed and started again with
// the same arguments. Its output is added to one file. Its methods may be
// called concurrently, but Start not with itself.
type Process struct {
	name  string
	path  string
	args  []string
	log   string
	ready string // URL that answers 200 when the process serves; empty for none
	host  Host
	env   []string     // added to this process's environment
	asks  *http.Client // for ready; nil is one that asks from host

	mu   sync.Mutex // guards the fields below
	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended and exit is set
	exit error
}

// NewProcess returns a program that is not started. Its output goes to a file
// of its name in dir. It is ready when the URL answers 200, or at once if
// there is none.
func NewProcess(dir, path, ready string, args ...string) *Process {
	name := filepath.Base(path)
	return &Process{name: name, path: path, args: args, log: filepath.Join(dir, name+".log"), ready: ready}
}

// On has the process run on a host. For a process that is not started.
func (p *Process) On(host Host) *Process {
	p.host = host
	return p
}

// With adds variables, as NAME=value, to the environment that the process is
// started in. For a process that is not started.
func (p *Process) With(variables ...string) *Process {
	p.env = append(p.env, variables...)
	return p
}

// Start starts the process and waits until it is ready. If it ends first, or
// the context does, the error tells the last lines of its output.
func (p *Process) Start(ctx context.Context) error {
	if err := p.Launch(); err != nil {
		return err
	}
	if err := p.awaitReady(ctx); err != nil {
		return fmt.Errorf("start %s: %w\n%s", p.name, err, p.Tail(20))
	}
	return nil
}

// Launch is Start without the wait.
func (p *Process) Launch() error {
	if err := p.start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return nil
}

func (p *Process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return errors.New("it is running")
	}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = output, output
	// A terminal's Ctrl-C is for whoever started this, who ends it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.env != nil {
		cmd.Env = append(os.Environ(), p.env...)
	}
	if err := errors.Join(p.host.enter(cmd.Start), output.Close()); err != nil {
		return err
	}
	gone := make(chan struct{})
	p.cmd, p.gone = cmd, gone
	go func() { // ends with the process, which Kill and Stop see to
		err := cmd.Wait()
		p.mu.Lock()
		p.cmd, p.exit = nil, err
		p.mu.Unlock()
		close(gone)
	}()
	return nil
}

func (p *Process) awaitReady(ctx context.Context) error {
	if p.ready == "" {
		return nil
	}
	p.mu.Lock()
	gone := p.gone
	p.mu.Unlock()
	for {
		if p.Ready(ctx) {
			return nil
		}
		select {
		case <-gone:
			return fmt.Errorf("it ended: %w", p.ended())
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Ready reports whether the process says that it serves.
func (p *Process) Ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ready, nil)
	if err != nil {
		return false
	}
	client := p.asks
	if client == nil {
		client = &http.Client{Transport: &http.Transport{DialContext: p.host.DialContext, DisableKeepAlives: true}}
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

func (p *Process) ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit == nil {
		return errors.New("exit status 0")
	}
	return p.exit
}

// Name returns the program's name.
func (p *Process) Name() string { return p.name }

// PID returns the process id, 0 if it is not running.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Kill ends the process by SIGKILL, as a crash would, and waits until it is
// gone. One that is not running is left alone.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL, 0)
}

// Stop asks the process to end, and kills it after the time given.
func (p *Process) Stop(patience time.Duration) {
	p.signal(syscall.SIGTERM, patience)
}

// Pause and Resume stop the process from running and let it go on.
func (p *Process) Pause() error { return p.send(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.send(syscall.SIGCONT) }

func (p *Process) send(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s is not running", p.name)
	}
	return p.cmd.Process.Signal(sig)
}

func (p *Process) signal(sig syscall.Signal, patience time.Duration) {
	p.mu.Lock()
	cmd, gone := p.cmd, p.gone
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	// An error means that the process has just ended, which is what is wanted.
	_ = cmd.Process.Signal(sig)
	if patience > 0 {
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	<-gone
}

// Output returns everything that the process has written so far.
func (p *Process) Output() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Tail returns the last lines of the output, each led by the process's name.
func (p *Process) Tail(n int) string {
	lines := bytes.Split(bytes.TrimSpace([]byte(p.Output())), []byte("\n"))
	var b strings.Builder
	for _, line := range lines[max(0, len(lines)-n):] {
		fmt.Fprintf(&b, "  %s: %s\n", p.name, line)
	}
	return b.String()
}

// A RunError is a command that failed.
type RunError struct {
	Command string
	Code    int
	Stderr  string
}

// Error implements error.
func (e *RunError) Error() string {
	return fmt.Sprintf("%s: exit code %d: %s", e.Command, e.Code, e.Stderr)
}

// Run runs a program on a host, with a standard input, until it ends, and
// returns what it printed. If the program fails, the error is a *RunError.
func Run(ctx context.Context, host Host, stdin io.Reader, path string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := host.enter(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return stdout.Bytes(), &RunError{
			Command: filepath.Base(path) + " " + strings.Join(args, " "), Code: exit.ExitCode(), Stderr: strings.TrimSpace(stderr.String()),
		}
	}
	return stdout.Bytes(), err
}
