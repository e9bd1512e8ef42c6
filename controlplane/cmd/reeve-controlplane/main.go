// Command reeve-controlplane keeps agents, grants and records, and streams to
// every sidecar what its agent may do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane"
	"github.com/reeve-authz/reeve/sidecar/ops"
	"github.com/reeve-authz/reeve/sidecar/settings"
)

// version is set by the linker.
var version = "devel"

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(code(err))
	}
}

func code(err error) int {
	if errors.Is(err, errUsage) || errors.Is(err, settings.ErrInvalid) || errors.Is(err, controlplane.ErrConfig) {
		return exitUsage
	}
	return exitFailed
}

// errUsage marks what another command line mends.
var errUsage = errors.New("usage")

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "reeve-controlplane",
		Short: "Keep grants and stream them to sidecars",
		Long: `reeve-controlplane keeps agents, grants and records in an embedded store (or in
an etcd of your own) and streams to every sidecar what its agent may do.

At its first start it makes a certificate authority and the certificate of a
first administrator, and says where they are.`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w; see %s --help", errUsage, err, c.CommandPath())
	})
	root.AddCommand(runCommand(), recoverAdminCommand(), backupCommand(), restoreCommand(), versionCommand())
	return root
}

func runCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the control plane until it is told to end",
		Long: `Run the control plane until SIGINT or SIGTERM. Sidecars go on acting on what they
hold for up to the freshness bound, so a restart within it goes unnoticed.
` + precedence,
		Example: `  # Everything embedded, on loopback, data in the default directory
  reeve-controlplane run

  # Reached by other machines under its own name
  reeve-controlplane run --advertise reeve.example.org \
    --admin-listen :7443 --sidecar-listen :7444 --enroll-listen :7445`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return run(c, &o) },
	}
	o.addAll(c.Flags())
	return c
}

func run(c *cobra.Command, o *options) error {
	log, err := o.fill(c)
	if err != nil {
		return err
	}
	meters, metrics, err := ops.NewMetrics()
	if err != nil {
		return err
	}
	defer func() { _ = meters.Shutdown(context.WithoutCancel(c.Context())) }() // it is pulled from: nothing to flush

	cp, err := controlplane.New(c.Context(), o.cfg, controlplane.Telemetry{Log: log, Meters: meters, Metrics: metrics})
	if err != nil {
		return err
	}
	return cp.Run(c.Context())
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "reeve-controlplane", version)
			return err
		},
	}
}
