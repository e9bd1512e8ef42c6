package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// patience is how long anything may take to start.
const patience = 30 * time.Second

// stage is everything that a measurement runs.
type stage struct {
	targets []*target

	dir     string
	reeve   *stack.Stack
	helpers []*exec.Cmd
}

// newStage starts the server, the bare proxy before it, and Reeve with an agent
// that holds s.grants grants.
func newStage(ctx context.Context, s settings) (_ *stage, err error) {
	st := &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.close())
		}
	}()
	if st.dir, err = os.MkdirTemp("", "reeve-calls-"); err != nil {
		return nil, err
	}
	server, err := st.helper("server")
	if err != nil {
		return nil, err
	}
	proxy, err := st.helper("proxy", server)
	if err != nil {
		return nil, err
	}
	if st.reeve, err = stack.New(stack.Config{Bin: s.bin, Dir: st.dir}); err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := st.startReeve(starting, server, s.grants); err != nil {
		return nil, err
	}
	url, secret, err := st.reeve.Endpoint("till")
	if err != nil {
		return nil, err
	}
	for _, way := range []struct{ name, url, secret string }{
		{"direct", server, ""}, {"proxy", proxy, ""}, {"sidecar", url, secret},
	} {
		t, err := newTarget(starting, way.name, way.url, way.secret)
		if err != nil {
			return nil, err
		}
		st.targets = append(st.targets, t)
	}
	return st, st.startPrograms(starting, s.bin)
}

// startPrograms starts what speaks over standard input and output: the server
// itself, and the sidecar's launcher in its place.
func (st *stage) startPrograms(ctx context.Context, bin string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, way := range []struct {
		name    string
		command []string
	}{
		{"stdio-direct", []string{self, "stdio"}},
		{"stdio-sidecar", []string{filepath.Join(bin, "reeve-sidecar"), "mcp", "--server", "drawer", "--state-dir", st.reeve.StateDir}},
	} {
		t, cmd, err := newProgram(ctx, way.name, way.command)
		if cmd != nil {
			st.helpers = append(st.helpers, cmd)
		}
		if err != nil {
			return err
		}
		st.targets = append(st.targets, t)
	}
	return nil
}

// startReeve starts a control plane with the measured tool in its catalogue, and
// a sidecar for an agent whose many grants are nearly all of other tools.
func (st *stage) startReeve(ctx context.Context, server string, grants int) error {
	if err := st.reeve.ControlPlane.Start(ctx); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := st.apply(ctx, catalogue(server, self)); err != nil {
		return err
	}
	const atOnce = 50
	for first := 0; first < grants; first += atOnce {
		var file strings.Builder
		for i := first; i < min(first+atOnce, grants); i++ {
			file.WriteString(grantOf(i))
		}
		if err := st.apply(ctx, file.String()); err != nil {
			return err
		}
	}
	if err := st.reeve.Enrol(ctx, stack.Agent, st.reeve.StateDir); err != nil {
		return err
	}
	return st.reeve.Sidecar.Start(ctx)
}

func (st *stage) apply(ctx context.Context, file string) error {
	_, err := st.reeve.ReevectlIn(ctx, strings.NewReader(file), "apply", "-f", "-")
	return err
}

func catalogue(server, self string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `kind: Namespace
name: namespaces/%[1]s
---
kind: Agent
name: namespaces/%[1]s/agents/%[2]s
labels: {team: billing}
---
kind: Server
name: namespaces/%[1]s/servers/till
http: {url: %[3]q}
---
kind: Server
name: namespaces/%[1]s/servers/drawer
stdio: {command: [%[4]q, stdio]}
---
kind: Tool
name: namespaces/%[1]s/servers/drawer/tools/invoice
effect: WRITE
reach: CLOSED
`, stack.Namespace, stack.Agent, server, self)
	for _, tool := range tools() {
		fmt.Fprintf(&b, "---\nkind: Tool\nname: namespaces/%s/servers/till/tools/%s\neffect: WRITE\nreach: CLOSED\n", stack.Namespace, tool)
	}
	return b.String()
}

// tools are the measured tool and others that grants can be about.
func tools() []string {
	names := []string{"invoice"}
	for i := range 40 {
		names = append(names, fmt.Sprintf("tool-%d", i))
	}
	return names
}

// grantOf is the i-th grant. Every hundredth is about the measured tool, and
// one of those, the first, allows the measured call.
func grantOf(i int) string {
	tool, effect, condition := fmt.Sprintf("tool-%d", i%40), "ALLOW", fmt.Sprintf("args.amount <= %d.0", i)
	more := ""
	switch {
	case i == 0:
		tool, more, condition = "invoice", ", {tool: drawer/invoice}", `args.currency == "EUR" && args.amount <= 100.0`
	case i%100 == 0:
		tool, effect, condition = "invoice", "FORBID", fmt.Sprintf("args.amount > %d.0", 1000+i)
	}
	return fmt.Sprintf(`---
kind: Grant
name: namespaces/%s/grants/g-%d
effect: %s
subjects: {selector: {matchLabels: {team: billing}}}
targets: [{tool: till/%s}%s]
condition: %q
expireTime: %q
`, stack.Namespace, i, effect, tool, more, condition, time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339))
}

// helper starts this program in another role and returns the address it prints.
func (st *stage) helper(args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	st.helpers = append(st.helpers, cmd)
	address, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(address), err
}

func (st *stage) sidecarPID() int { return st.reeve.Sidecar.PID() }

func (st *stage) close() error {
	if st.reeve != nil {
		st.reeve.Close()
	}
	var errs []error
	for _, cmd := range st.helpers {
		errs = append(errs, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed, and says so
	}
	if st.dir != "" {
		errs = append(errs, os.RemoveAll(filepath.Clean(st.dir)))
	}
	return errors.Join(errs...)
}
