// Command demo walks through what Reeve is for, on real parts: a control plane,
// a sidecar, an MCP server and an agent, each a process of its own. It prints
// what it computed from MCP replies and from decisions, and ends with 1 if any
// of it differs from what was to be shown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := flag.NewFlagSet("demo", flag.ExitOnError)
	bin := flags.String("bin", ".build/bin", "`folder` of the built binaries")
	example := flags.String("example", "examples/support", "`folder` of the example")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "reeve-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n(what the processes wrote is in %s)", err, dir)
			return
		}
		err = os.RemoveAll(dir)
	}()

	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the demo took more than a minute"))
	defer cancel()
	s, err := stack.New(stack.Config{Bin: *bin, Dir: dir, Example: *example})
	if err != nil {
		return err
	}
	defer s.Close()
	d := demo{stack: s, out: stdout}
	if err := d.walk(ctx); err != nil {
		return err
	}
	d.printf("\nAll of it as announced, in %.1f s.\n", time.Since(began).Seconds())
	return d.failed
}
