package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
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
		Args:    exactly(0, ""),
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
		return a.write(t)
	})
	return cmd
}

// write prints a table, whole if it is to be wide.
func (a *app) write(t *output.Table) error {
	if a.Format == output.AsWide {
		return t.Fit(a.Out, 0)
	}
	return t.Write(a.Out)
}

// listSidecars returns the sidecars of the namespace or of all, and the last page
// of them.
func (a *app) listSidecars(ctx context.Context, conn session.Conn, everywhere bool,
) (found []*adminv1.Sidecar, last *adminv1.ListSidecarsResponse, err error) {
	parent := "namespaces/" + a.Namespace
	if everywhere {
		parent = "namespaces/-"
	}
	found, err = session.Pages(ctx, 0, func(ctx context.Context, size int32, token string) (*adminv1.ListSidecarsResponse, error) {
		page, err := adminv1.NewSidecarsClient(conn).ListSidecars(ctx,
			&adminv1.ListSidecarsRequest{Parent: parent, PageSize: size, PageToken: token})
		last = page
		return page, err
	}, (*adminv1.ListSidecarsResponse).GetSidecars)
	return found, last, err
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
		Long: `Show the control planes of the store: those that serve, those that do not
answer, and those that have ended and whose sidecars may still be fresh, with
for how long at the most.`,
		Example: "  reevectl replicas\n  reevectl replicas -o json",
		Args:    exactly(0, ""),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
			found, err := listReplicas(ctx, conn)
			if err != nil {
				return err
			}
			if a.Format.Machine() {
				return output.List(a.Out, a.Format, found)
			}
			return a.write(fleet.Replicas(found, a.Now()))
		}),
	}
}

func listReplicas(ctx context.Context, conn session.Conn) ([]*adminv1.Replica, error) {
	ctx, cancel := session.Brief(ctx)
	defer cancel()
	resp, err := adminv1.NewSidecarsClient(conn).ListReplicas(ctx, &adminv1.ListReplicasRequest{})
	return resp.GetReplicas(), err
}

func (a *app) fleetCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "fleet",
		Short: "Stop all agents, or those of a namespace, and resume them",
		Example: `  reevectl fleet halt -n support --wait --reason 'leaked prompt'
  reevectl fleet halt --all --wait
  reevectl fleet resume -n support
  reevectl fleet status`,
	})
	cmd.AddCommand(a.fleetHaltCommand(), a.fleetResumeCommand(), a.fleetStatusCommand())
	return cmd
}

func (a *app) fleetHaltCommand() *cobra.Command {
	var (
		c   session.Change
		all bool
	)
	cmd := &cobra.Command{
		Use:   "halt",
		Short: "Deny every call of a namespace's agents, or of all agents",
		Long: `Deny every call of the agents of a namespace, or with --all of all agents, and
cut what is open, until an owner resumes them. Grants stay as they are. A halt
survives restarts.`,
		Example: "  reevectl fleet halt -n support --wait --reason 'leaked prompt'\n  reevectl fleet halt --all --wait",
		Args:    exactly(0, ""),
	}
	c.Flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all agents of all namespaces")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all && cmd.Flag("namespace").Changed {
			return session.UsageError{Err: errors.New("give --all or -n, not both")}
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, _ []string) error {
			name, lift := a.button(all)
			_, err := c.Made(ctx, c.Doubt(fleet.Scope(name)+" was halted", "reevectl fleet status"),
				func(ctx context.Context, opts ...grpc.CallOption) error {
					state, err := adminv1.NewFleetClient(conn).HaltFleet(ctx, &adminv1.HaltFleetRequest{Name: name, Reason: c.Reason}, opts...)
					if err != nil {
						return err
					}
					return a.Print(state, func(w io.Writer) error {
						_, err := fmt.Fprintf(w, "%s is halted: its agents are denied every call\nlift it with: %s\n", fleet.Scope(name), lift)
						return err
					})
				})
			return err
		})(cmd, args)
	}
	return cmd
}

// button returns the name of a stop button, and the command that lifts it.
func (a *app) button(all bool) (name, lift string) {
	if all {
		return "fleet", "reevectl fleet resume --all"
	}
	return "namespaces/" + a.Namespace + "/fleet", "reevectl fleet resume -n " + a.Namespace
}

func (a *app) fleetResumeCommand() *cobra.Command {
	var (
		c   session.Change
		all bool
	)
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Lift a halt",
		Long: `Lift the halt of a namespace, or with --all the one of everything. Each halt is
lifted by itself: resuming everything leaves a namespace halted that was halted
by its own name. Say which with -n or --all. Only an owner may.`,
		Example: "  reevectl fleet resume -n support --reason 'prompt corrected'\n  reevectl fleet resume --all",
		Args:    exactly(0, ""),
	}
	c.Flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "the halt of everything")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == cmd.Flag("namespace").Changed {
			return session.UsageError{Err: errors.New("say what to resume, with -n NAMESPACE or --all: reevectl fleet status shows what is halted")}
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, _ []string) error {
			name, _ := a.button(all)
			_, err := c.Made(ctx, c.Doubt(fleet.Scope(name)+" was resumed", "reevectl fleet status"),
				func(ctx context.Context, opts ...grpc.CallOption) error {
					resp, err := adminv1.NewFleetClient(conn).ResumeFleet(ctx, &adminv1.ResumeFleetRequest{Name: name, Reason: c.Reason}, opts...)
					if status.Code(err) == codes.NotFound {
						return status.Errorf(codes.NotFound, "%s is not halted: see reevectl fleet status", fleet.Scope(name))
					}
					if err != nil {
						return err
					}
					return a.Print(resp, func(w io.Writer) error {
						_, err := fmt.Fprintf(w, "%s is resumed\n", fleet.Scope(name))
						return err
					})
				})
			if err != nil {
				return err
			}
			a.sayHalted(ctx, conn)
			return nil
		})(cmd, args)
	}
	return cmd
}

// sayHalted says what is halted still.
func (a *app) sayHalted(ctx context.Context, conn session.Conn) {
	states, err := listHalts(ctx, conn)
	if err != nil {
		return // what was asked for is done
	}
	for _, s := range states {
		lift := "--all"
		if ns := kind.NamespaceOf(s.GetName()); ns != "" {
			lift = "-n " + ns
		}
		a.Say("note: %s is halted still: reevectl fleet resume %s lifts that", fleet.Scope(s.GetName()), lift)
	}
}

func listHalts(ctx context.Context, conn session.Conn) ([]*grantv1.FleetState, error) {
	ctx, cancel := session.Brief(ctx)
	defer cancel()
	resp, err := adminv1.NewFleetClient(conn).ListFleetStates(ctx, &adminv1.ListFleetStatesRequest{})
	return resp.GetStates(), err
}

func (a *app) fleetStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what is halted, and the whole fleet in numbers",
		Long: `Show what is halted, the control planes, and how many sidecars there are: fresh
ones may act; stale ones deny everything; refusing ones refuse something, as
reevectl sidecars -A shows; those behind are fresh and lack a change.`,
		Example: "  reevectl fleet status\n  reevectl fleet status -o json",
		Args:    exactly(0, ""),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
			states, err := listHalts(ctx, conn)
			if err != nil {
				return err
			}
			replicas, err := listReplicas(ctx, conn)
			if err != nil {
				return err
			}
			sidecars, page, err := a.listSidecars(ctx, conn, true)
			if err != nil {
				return err
			}
			defer a.sayUnreachable(page)
			return a.showFleet(states, replicas, fleet.Sum(sidecars, page.GetRevision()))
		}),
	}
}

func (a *app) showFleet(states []*grantv1.FleetState, replicas []*adminv1.Replica, sum fleet.Summary) error {
	if a.Format.Machine() {
		text, err := fleet.Document(states, replicas, sum)
		if err != nil {
			return err
		}
		return output.Document(a.Out, a.Format, text)
	}
	if len(states) == 0 {
		if _, err := io.WriteString(a.Out, "nothing is halted\n"); err != nil {
			return err
		}
	} else if err := a.write(fleet.Halts(states, a.Now())); err != nil {
		return err
	}
	for _, t := range []*output.Table{fleet.Replicas(replicas, a.Now()), sum.Table()} {
		if _, err := io.WriteString(a.Out, "\n"); err != nil {
			return err
		}
		if err := a.write(t); err != nil {
			return err
		}
	}
	return nil
}
