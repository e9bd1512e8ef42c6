// Package launch starts the programs that servers are: without a shell, with
// nothing of the sidecar's that they were not given, and as another user if one
// is named.
package launch

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio/supervisor"
)

// kept are the variables that a server gets of the sidecar's environment.
var kept = [...]string{"PATH", "HOME", "LANG", "TMPDIR"}

// pipes are the ends of what a server reads and writes.
type pipes struct {
	in, out, problems *os.File
}

func (p *pipes) close() {
	for _, f := range []*os.File{p.in, p.out, p.problems} {
		if f != nil {
			_ = f.Close() // a pipe
		}
	}
}

// A Program is a server that was started. Who started it must Reap it.
type Program struct {
	// In is what it reads; Out and Problems are what it writes to its standard
	// output and its standard error. They have deadlines.
	In, Out, Problems *os.File

	child child
	dir   string // to be removed; empty if it is the operator's
}

// A child is what the system started for a Program.
type child interface {
	// PID is the number of its first process, which is also that of its group.
	PID() int
	// Signal sends a signal to the whole group, if there still is one.
	Signal(signal syscall.Signal)
	// Wait waits until the server has ended, ends what it leaves, and returns how
	// its first process ended.
	Wait() (how string, err error)
}

// Start starts a server by its launch line. On Linux the calling thread must last
// as long as the sidecar. The error says what to do.
func Start(line *grantv1.Server_Stdio, as *Account) (_ *Program, err error) {
	path, err := find(line.GetCommand()[0])
	if err != nil {
		return nil, err
	}
	p := &Program{}
	attr := &os.ProcAttr{Env: environment(line, as), Dir: line.GetWorkingDir(), Sys: &syscall.SysProcAttr{Setpgid: true}}
	defer func() {
		if err != nil {
			p.Close()
			err = errors.Join(err, p.clean())
		}
	}()
	if attr.Dir == "" {
		if p.dir, err = emptyDir(as); err != nil {
			return nil, err
		}
		attr.Dir = p.dir
	} else if info, err := os.Stat(attr.Dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("its working directory %q is not a directory of the sidecar's machine: make it, or correct the launch line in the catalogue", attr.Dir)
	}
	if as != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid, Groups: as.groups}
	}
	theirs, err := p.connect()
	if err != nil {
		return nil, err
	}
	attr.Files = []*os.File{theirs.in, theirs.out, theirs.problems}
	p.child, err = startChild(path, line.GetCommand(), attr)
	theirs.close()
	if errors.Is(err, supervisor.ErrNone) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("its program %q does not start: %w; correct the launch line in the catalogue, or what it names on the sidecar's machine", line.GetCommand()[0], err)
	}
	return p, nil
}

// connect makes the pipes, and returns the server's ends of them.
func (p *Program) connect() (theirs pipes, err error) {
	var errs [3]error
	theirs.in, p.In, errs[0] = os.Pipe()
	p.Out, theirs.out, errs[1] = os.Pipe()
	p.Problems, theirs.problems, errs[2] = os.Pipe()
	if err := errors.Join(errs[:]...); err != nil {
		theirs.close()
		return pipes{}, fmt.Errorf("make pipes: %w", err)
	}
	return theirs, nil
}

// Close closes the sidecar's ends of the pipes.
func (p *Program) Close() {
	for _, f := range []*os.File{p.In, p.Out, p.Problems} {
		if f != nil {
			_ = f.Close() // a pipe
		}
	}
}

// PID returns the number of its first process, which is also that of its group.
func (p *Program) PID() int { return p.child.PID() }

// Signal sends a signal to the whole group, if there still is one; on Linux,
// SIGKILL to every process there is of the server.
func (p *Program) Signal(signal syscall.Signal) { p.child.Signal(signal) }

// Reap waits until the program has ended, ends what it leaves, and returns how
// its first process ended. If an error comes with that, something is left.
func (p *Program) Reap() (how string, err error) {
	how, err = p.child.Wait()
	return how, errors.Join(err, p.clean())
}

// clean removes the directory that was made for the server.
func (p *Program) clean() error {
	if p.dir == "" {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// find returns where the program is that a launch line names.
func find(program string) (string, error) {
	if strings.Contains(program, "/") {
		return program, nil
	}
	path, err := exec.LookPath(program)
	if err != nil || !filepath.IsAbs(path) {
		return "", fmt.Errorf("its program %q is not in the PATH of the sidecar: install it on the sidecar's machine, or name it by its whole path in the catalogue", program)
	}
	return path, nil
}

// environment is the environment of a server, and nothing else of the
// sidecar's.
func environment(line *grantv1.Server_Stdio, as *Account) []string {
	values := make(map[string]string)
	for _, name := range kept {
		if v, ok := os.LookupEnv(name); ok {
			values[name] = v
		}
	}
	if as != nil {
		values["HOME"] = as.home
		delete(values, "TMPDIR") // it may be the sidecar's alone
	}
	maps.Copy(values, line.GetEnv())
	env := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		env = append(env, name+"="+values[name])
	}
	return env
}

// emptyDir makes an empty directory that only the server's user can enter.
func emptyDir(as *Account) (string, error) {
	parent := ""
	if as != nil {
		parent = "/tmp" // not the sidecar's TMPDIR, which may be its alone
	}
	dir, err := os.MkdirTemp(parent, "reeve-server-")
	if err != nil {
		return "", fmt.Errorf("make its working directory: %w", err)
	}
	if as != nil {
		if err := os.Chown(dir, int(as.uid), int(as.gid)); err != nil {
			return "", errors.Join(fmt.Errorf("make its working directory: %w", err), os.Remove(dir))
		}
	}
	return dir, nil
}
