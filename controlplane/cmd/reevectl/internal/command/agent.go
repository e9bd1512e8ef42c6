package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func (a *app) agentCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "agent",
		Short:   "Suspend, resume and retire agents",
		Example: "  reevectl agent suspend support --wait --reason 'acts oddly'\n  reevectl agent resume support",
	})
	cmd.AddCommand(
		a.turnCommand("suspend", "suspended", "Deny every call of an agent until it is resumed",
			func(ctx context.Context, c adminv1.AgentsClient, name, reason string, opts ...grpc.CallOption) (*grantv1.Agent, error) {
				return c.SuspendAgent(ctx, &adminv1.SuspendAgentRequest{Name: name, Reason: reason}, opts...)
			}),
		a.turnCommand("resume", "resumed", "Make a suspended agent active again",
			func(ctx context.Context, c adminv1.AgentsClient, name, reason string, opts ...grpc.CallOption) (*grantv1.Agent, error) {
				return c.ResumeAgent(ctx, &adminv1.ResumeAgentRequest{Name: name, Reason: reason}, opts...)
			}),
		a.turnCommand("retire", "retired", "Deny every call of an agent for ever",
			func(ctx context.Context, c adminv1.AgentsClient, name, reason string, opts ...grpc.CallOption) (*grantv1.Agent, error) {
				return c.RetireAgent(ctx, &adminv1.RetireAgentRequest{Name: name, Reason: reason}, opts...)
			}),
	)
	return cmd
}

// turnCommand is a command that changes an agent's state.
func (a *app) turnCommand(verb, done, short string,
	turn func(context.Context, adminv1.AgentsClient, string, string, ...grpc.CallOption) (*grantv1.Agent, error),
) *cobra.Command {
	var c session.Change
	cmd := &cobra.Command{
		Use:     verb + " AGENT",
		Short:   short,
		Example: "  reevectl agent " + verb + " support --wait",
		Args:    exactly(1, "AGENT"),
	}
	c.Flags(cmd)
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		name, err := a.Name(kind.Agent, args[0])
		if err != nil {
			return err
		}
		doubt := c.Doubt("the agent was "+done, "reevectl get agent "+a.Typed(name))
		_, err = c.Made(ctx, doubt, func(ctx context.Context, opts ...grpc.CallOption) error {
			agent, err := turn(ctx, adminv1.NewAgentsClient(conn), name, c.Reason, opts...)
			if err != nil {
				return noAgent(err, name)
			}
			return a.Print(agent, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is %s\n", name, strings.ToLower(agent.GetState().String()))
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

func (a *app) tokenCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "token",
		Short:   "Make join tokens, by which sidecars enrol",
		Example: "  reevectl token create support",
	})
	var (
		ttl string
		c   session.Change
	)
	create := &cobra.Command{
		Use:   "create AGENT",
		Short: "Make a token that enrols one sidecar for an agent",
		Long: `Make a join token, and print it with the command that enrols a sidecar by it. A
token is told once and works once: used with a second key it suspends the agent.`,
		Example: "  reevectl token create support\n  reevectl token create support --ttl 15m -o json",
		Args:    exactly(1, "AGENT"),
	}
	create.Flags().StringVar(&ttl, "ttl", "1h", "how long the token may be used, up to 7d")
	c.Flags(create)
	create.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		name, err := a.Name(kind.Agent, args[0])
		if err != nil {
			return err
		}
		d, err := parseDuration(ttl)
		if err != nil {
			return session.UsageError{Err: fmt.Errorf("--ttl: %w", err)}
		}
		_, err = c.Made(ctx, "a token may have been made that nobody knows; make another",
			func(ctx context.Context, opts ...grpc.CallOption) error {
				token, err := adminv1.NewAgentsClient(conn).CreateJoinToken(ctx,
					&adminv1.CreateJoinTokenRequest{Agent: name, Ttl: durationpb.New(d), Reason: c.Reason}, opts...)
				if err != nil {
					return noAgent(err, name)
				}
				return a.Print(token, func(w io.Writer) error { return printToken(w, token, a.Now()) })
			})
		return err
	})
	cmd.AddCommand(create)
	return cmd
}

// printToken prints a token with the command that uses it. The token goes in by
// standard input, for everyone on a machine can read its command lines.
func printToken(w io.Writer, t *adminv1.JoinToken, now time.Time) error {
	_, err := fmt.Fprintf(w, `Join token of %s, for one use until %s (%s):

  %s

Enrol a sidecar with it, on the agent's machine:

  echo %s | reeve-sidecar enroll \
    --control-plane %s \
    --enroll-address %s \
    --ca-digest %s \
    --join-token-file -
`, t.GetAgent(), output.Clock(t.GetExpireTime(), now), output.Until(t.GetExpireTime(), now), t.GetToken(), t.GetToken(),
		t.GetSidecarAddress(), t.GetEnrollAddress(), t.GetCaDigest())
	return err
}
