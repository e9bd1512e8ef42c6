package operate

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/watch"
)

// shortest is how often watch asks at the most.
const shortest = 200 * time.Millisecond

func (a *app) watchCommand() *cobra.Command {
	var (
		everywhere bool
		interval   time.Duration
	)
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch the fleet: control planes, sidecars, denials and halts",
		Long: `Watch the fleet until interrupted: what is halted, the control planes, the
sidecars and for how long they are fresh, and how many calls are denied a
second. On a terminal it is drawn in place; elsewhere, each change is a line.`,
		Example: "  reevectl watch\n  reevectl watch -A --interval 500ms\n  reevectl watch -n support | tee fleet.log",
		Args:    cli.Exactly(0, ""),
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "of all namespaces")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "how often to look")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case interval < shortest:
			return cli.Usage("--interval %s: give %s or more", interval, shortest)
		case a.Format.Machine():
			return cli.Usage("watch prints no %s: use reevectl fleet status -o %s", a.Format, a.Format)
		}
		return a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
			parent := "namespaces/" + a.Namespace
			if everywhere {
				parent = "namespaces/-"
			}
			return watch.Run(ctx, conn, watch.Options{
				Parent: parent, Interval: interval, Out: a.Out, Width: output.Width(a.Out), Height: output.Height(a.Out), Now: a.Now,
			})
		})(cmd, args)
	}
	return cmd
}
