// Command reeve-sidecar stands beside one agent: it decides every tool call by
// what its control plane grants, forwards what is allowed, and records both.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/sidecar"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio/supervisor"
	"github.com/reeve-authz/reeve/sidecar/settings"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	if supervisor.Called(os.Args) { // before anything is made that it has no use for
		os.Exit(supervisor.Main())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// There is one sidecar to an agent, so its memory counts for more than the
	// time to collect a heap of a few megabytes twice as often: 2 MB less of
	// 14 by `make bench`. GOGC, if it is set, wins.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(code(err))
	}
}

func code(err error) int {
	if errors.Is(err, errUsage) || errors.Is(err, settings.ErrInvalid) || errors.Is(err, sidecar.ErrConfig) {
		return exitUsage
	}
	return exitFailed
}

// errUsage marks what another command line mends.
var errUsage = errors.New("usage")

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "reeve-sidecar",
		Short: "Decide, forward and record one agent's tool calls",
		Long: `reeve-sidecar stands beside one agent. The agent reaches its MCP servers at
http://127.0.0.1:7070/mcp/{server}; every call is decided by what the control
plane grants the agent, recorded, and only then forwarded.

A sidecar is enrolled once, with the command that reevectl token create prints,
and then run.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w; see %s --help", errUsage, err, c.CommandPath())
	})
	root.AddCommand(runCommand(), enrollCommand(), endpointCommand(), mcpCommand(), sessionCommand())
	addVersion(root)
	return root
}
