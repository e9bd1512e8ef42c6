package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/sidecar"
	"github.com/reeve-authz/reeve/sidecar/ops"
	"github.com/reeve-authz/reeve/sidecar/settings"
)

func runCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the sidecar until it is told to end",
		Long: `Run the sidecar until SIGINT or SIGTERM, then let calls in progress finish for
up to --drain-timeout. A sidecar that is not enrolled yet enrols first, if it has
a join token.

Give the addresses of all replicas of the control plane, or a name that stands for
them. The sidecar is connected to one of them, chosen at random, and goes to the
next, while what it holds is still fresh, when that one is of no help.
` + precedence,
		Example: `  # A sidecar that was enrolled into the default directory
  reeve-sidecar run

  # A container that enrols itself at its first start
  REEVE_SIDECAR_JOIN_TOKEN=… reeve-sidecar run --state-dir /var/lib/reeve \
    --control-plane reeve:7444 --enroll-address reeve:7445 --ca-digest sha256:…

  # Three replicas of the control plane
  reeve-sidecar run --control-plane cp-0:7444,cp-1:7444,cp-2:7444`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return run(c, &o) },
	}
	addFile(c.Flags())
	o.addState(c.Flags())
	o.addEnrollment(c.Flags())
	o.addRun(c.Flags())
	o.addLog(c.Flags())
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

	s, err := sidecar.New(o.cfg, sidecar.Telemetry{
		Log:     log,
		Meters:  meters,
		Metrics: metrics,
	})
	if err != nil {
		return err
	}
	return s.Run(c.Context())
}

func enrollCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "enroll",
		Short: "Enrol this sidecar for an agent, once",
		Long: `Use up a join token: make a key that never leaves this machine, get the agent's
SVID for it, and keep both in the state directory with the control plane's
addresses. Afterwards "reeve-sidecar run" with the same state directory needs no
other flag.

reevectl token create prints this command with everything filled in. The token
is read from standard input, a file or the environment, never from the command
line, which other users could see.
` + precedence,
		Example: `  reeve-sidecar enroll --ca-digest sha256:… --join-token-file - <<< rjt_…`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := o.fill(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
			defer cancel()
			agent, err := sidecar.Enroll(ctx, o.cfg, log)
			if err != nil {
				return err
			}
			if err := writeConfig(o.cfg); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "enrolled for %s\nnext: reeve-sidecar run --state-dir %s\n", agent, o.cfg.StateDir)
			return err
		},
	}
	addFile(c.Flags())
	o.addState(c.Flags())
	o.addEnrollment(c.Flags())
	o.addLog(c.Flags())
	return c
}

func endpointCommand() *cobra.Command {
	var o options
	var output string
	c := &cobra.Command{
		Use:   "endpoint",
		Short: "Print how the agent reaches its MCP servers",
		Long: `Print the URL and the header with which this sidecar's agent reaches its MCP
servers. The secret in the header is new at every start of the sidecar; give it
to the agent and to nobody else.`,
		Example: `  reeve-sidecar endpoint
  reeve-sidecar endpoint --output json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := settings.Fill(c.Flags(), variablePrefix, os.LookupEnv); err != nil {
				return err
			}
			e, err := sidecar.ReadEndpoint(o.cfg.StateDir)
			if err != nil {
				return fmt.Errorf("%w; is the sidecar running with --state-dir %s?", err, o.cfg.StateDir)
			}
			return printEndpoint(c.OutOrStdout(), output, e)
		},
	}
	o.addState(c.Flags())
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return c
}
