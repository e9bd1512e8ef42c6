package operate

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) sidecarsCommand() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "sidecars",
		Short: "Show what sidecars hold, and for how long they may act on it",
		Long: `Show the sidecars that are connected or may still be fresh: the control plane
that each has its stream to, the revision it holds, how long ago it
acknowledged, and for how long it may still act without hearing again. What one
refuses is under it, with its own words.`,
		Example: "  reevectl sidecars\n  reevectl sidecars -A -o wide",
		Args:    cli.Exactly(0, ""),
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "of all namespaces")
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
		found, page, err := a.listSidecars(ctx, conn, everywhere)
		if err != nil {
			return err
		}
		defer a.sayUnreachable(page)
		if a.Format.Machine() {
			return output.List(a.Out, a.Format, found)
		}
		if len(found) == 0 {
			if everywhere {
				a.Say("there are no sidecars: enrol one with reevectl token create AGENT")
			} else {
				a.Say("namespace " + a.Namespace + " has no sidecars: -A shows those of all namespaces")
			}
			return nil
		}
		t := fleet.Sidecars(found, fleet.View{Revision: page.GetRevision(), Everywhere: everywhere, Wide: a.Format == output.AsWide, Now: a.Now()})
		return a.Write(t)
	})
	return cmd
}

// listSidecars returns the sidecars of the namespace or of all, and the last page
// of them.
func (a *app) listSidecars(ctx context.Context, conn session.Conn, everywhere bool) ([]*adminv1.Sidecar, *adminv1.ListSidecarsResponse, error) {
	parent := "namespaces/" + a.Namespace
	if everywhere {
		parent = "namespaces/-"
	}
	return fleet.List(ctx, conn, parent)
}

// sayUnreachable says which control planes could not be asked for their sidecars.
func (a *app) sayUnreachable(page *adminv1.ListSidecarsResponse) {
	if who := page.GetUnreachableReplicas(); len(who) > 0 {
		a.Say("note: %s did not answer, so sidecars there are missing here: see reevectl replicas",
			output.Visible(strings.Join(who, ", ")))
	}
}

func (a *app) replicasCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "replicas",
		Short: "Show the control planes that serve sidecars",
		Long: `Show the control planes of the store: those that serve; detached ones, which
answer but have not been able to read the store for 5s, and let no sidecar act
any more; those that do not answer; and those that have ended and whose sidecars
may still be fresh, with for how long at the most.`,
		Example: "  reevectl replicas\n  reevectl replicas -o json",
		Args:    cli.Exactly(0, ""),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
			found, err := fleet.ListReplicas(ctx, conn)
			if err != nil {
				return err
			}
			if a.Format.Machine() {
				return output.List(a.Out, a.Format, found)
			}
			return a.Write(fleet.Replicas(found, a.Now()))
		}),
	}
}
