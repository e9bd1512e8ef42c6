// Package agent has the commands for agents: making them, enrolling their
// sidecars, and their sessions.
package agent

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// app is the session that the commands are of.
type app struct{ *cli.App }

// Commands returns the commands.
func Commands(c *cli.App) []*cobra.Command {
	a := &app{c}
	return []*cobra.Command{a.agentCommand(), a.tokenCommand(), a.sessionCommand()}
}

func (a *app) agentCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:     "agent",
		Short:   "Make, suspend, resume and retire agents",
		Example: "  reevectl agent create support --label team=support\n  reevectl agent suspend support --wait --reason 'acts oddly'\n  reevectl agent resume support",
	})
	cmd.AddCommand(
		a.agentCreateCommand(),
		a.turnCommand("suspend", "suspended", "Deny every call of an agent until it is resumed", `Deny every call of an agent, cut what is open, and renew no certificate of its
sidecars, until it is resumed. It keeps its grants.`,
			func(ctx context.Context, client adminv1.AgentsClient, name string, c *session.Change, opts ...grpc.CallOption) (*grantv1.Agent, error) {
				return client.SuspendAgent(ctx, &adminv1.SuspendAgentRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
			}),
		a.turnCommand("resume", "resumed", "Make a suspended agent active again", `Make a suspended agent active again, with the grants that it has now.`,
			func(ctx context.Context, client adminv1.AgentsClient, name string, c *session.Change, opts ...grpc.CallOption) (*grantv1.Agent, error) {
				return client.ResumeAgent(ctx, &adminv1.ResumeAgentRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
			}),
		a.turnCommand("retire", "retired", "Deny every call of an agent for ever", `Deny every call of an agent, for ever: it can only be deleted then.`,
			func(ctx context.Context, client adminv1.AgentsClient, name string, c *session.Change, opts ...grpc.CallOption) (*grantv1.Agent, error) {
				return client.RetireAgent(ctx, &adminv1.RetireAgentRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
			}),
	)
	return cmd
}

// turnCommand is a command that changes an agent's state.
func (a *app) turnCommand(verb, done, short, long string,
	turn func(context.Context, adminv1.AgentsClient, string, *session.Change, ...grpc.CallOption) (*grantv1.Agent, error),
) *cobra.Command {
	var c session.Change
	cmd := &cobra.Command{
		Use:     verb + " AGENT",
		Short:   short,
		Long:    long,
		Example: "  reevectl agent " + verb + " support --wait --reason 'acts oddly'",
		Args:    cli.Exactly(1, "AGENT"),

		ValidArgsFunction: a.IDs(kind.Agent, 1),
	}
	c.Flags(cmd)
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		name, err := a.Name(kind.Agent, args[0])
		if err != nil {
			return err
		}
		doubt := c.Doubt("the agent was "+done, "reevectl get agent "+a.Typed(name))
		_, err = c.Made(ctx, doubt, func(ctx context.Context, opts ...grpc.CallOption) error {
			agent, err := turn(ctx, adminv1.NewAgentsClient(conn), name, &c, opts...)
			if err != nil {
				return noAgent(err, name)
			}
			return a.Print(agent, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is %s\n", name, c.Said(strings.ToLower(agent.GetState().String())))
				return err
			})
		})
		return err
	})
	return cmd
}

// noAgent adds to the error of who asked for an agent that is not there where to
// see those that are.
func noAgent(err error, name string) error {
	if s, ok := status.FromError(err); ok && s.Code() == codes.NotFound {
		return status.Errorf(codes.NotFound, "%s; see reevectl get agents -n %s", s.Message(), kind.NamespaceOf(name))
	}
	return err
}
