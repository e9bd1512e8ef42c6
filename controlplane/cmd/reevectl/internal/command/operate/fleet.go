// Package operate has the commands for a running fleet.
package operate

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// app is the session that the commands are of.
type app struct{ *cli.App }

// Commands returns those that change a fleet, and those that show it.
func Commands(c *cli.App) (change, see []*cobra.Command) {
	a := &app{c}
	return []*cobra.Command{a.fleetCommand()},
		[]*cobra.Command{a.sidecarsCommand(), a.replicasCommand(), a.watchCommand(), a.doctorCommand(), a.waitCommand()}
}

func (a *app) fleetCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
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
		Args:    cli.Exactly(0, ""),
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
					state, err := adminv1.NewFleetClient(conn).HaltFleet(ctx, &adminv1.HaltFleetRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
					if err != nil {
						return err
					}
					return a.Print(state, func(w io.Writer) error {
						if c.Dry {
							_, err := fmt.Fprintf(w, "%s would be halted (dry run)\n", fleet.Scope(name))
							return err
						}
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
	if name = "fleet"; !all {
		name = "namespaces/" + a.Namespace + "/fleet"
	}
	return name, fleet.Lift(name)
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
		Args:    cli.Exactly(0, ""),
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
					resp, err := adminv1.NewFleetClient(conn).ResumeFleet(ctx, &adminv1.ResumeFleetRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
					if status.Code(err) == codes.NotFound {
						return status.Errorf(codes.NotFound, "%s is not halted: see reevectl fleet status", fleet.Scope(name))
					}
					if err != nil {
						return err
					}
					return a.Print(resp, func(w io.Writer) error {
						_, err := fmt.Fprintf(w, "%s is %s\n", fleet.Scope(name), c.Said("resumed"))
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
	states, err := fleet.ListHalts(ctx, conn)
	if err != nil {
		return // what was asked for is done
	}
	for _, s := range states {
		a.Say("note: %s is halted still: %s lifts that", fleet.Scope(s.GetName()), fleet.Lift(s.GetName()))
	}
}

func (a *app) fleetStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what is halted, and the whole fleet in numbers",
		Long: `Show what is halted, the control planes, and how many sidecars there are: fresh
ones may act; stale ones deny everything; refusing ones refuse something, as
reevectl sidecars -A shows; those behind are fresh and lack a change.`,
		Example: "  reevectl fleet status\n  reevectl fleet status -o json",
		Args:    cli.Exactly(0, ""),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
			states, err := fleet.ListHalts(ctx, conn)
			if err != nil {
				return err
			}
			replicas, err := fleet.ListReplicas(ctx, conn)
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
	} else if err := a.Write(fleet.Halts(states, a.Now())); err != nil {
		return err
	}
	for _, t := range []*output.Table{fleet.Replicas(replicas, a.Now()), sum.Table()} {
		if _, err := io.WriteString(a.Out, "\n"); err != nil {
			return err
		}
		if err := a.Write(t); err != nil {
			return err
		}
	}
	return nil
}
