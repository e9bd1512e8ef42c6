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
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func (a *app) agentCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "agent",
		Short:   "Make, suspend, resume and retire agents",
		Example: "  reevectl agent create support --label team=support\n  reevectl agent suspend support --wait --reason 'acts oddly'\n  reevectl agent resume support",
	})
	cmd.AddCommand(
		a.agentCreateCommand(),
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

func (a *app) agentCreateCommand() *cobra.Command {
	var (
		c     session.Change
		agent grantv1.Agent
	)
	cmd := &cobra.Command{
		Use:   "create AGENT",
		Short: "Make an agent, which may do nothing yet",
		Example: `  reevectl agent create support --label team=support --owner dana@example.com
  reevectl token create support`,
		Args: exactly(1, "AGENT"),
	}
	c.Flags(cmd)
	f := cmd.Flags()
	f.StringToStringVarP(&agent.Labels, "label", "l", nil, "label that grants select by, key=value; may be repeated")
	f.StringVar(&agent.Owner, "owner", "", "the person who answers for the agent")
	f.StringVar(&agent.Description, "description", "", "what the agent does")
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		var err error
		if agent.Name, err = a.Name(kind.Agent, args[0]); err != nil {
			return err
		}
		doubt := c.Doubt("the agent was created", "reevectl get agent "+a.Typed(agent.GetName()))
		_, err = c.Made(ctx, doubt, func(ctx context.Context, opts ...grpc.CallOption) error {
			made, err := adminv1.NewAgentsClient(conn).CreateAgent(ctx, &adminv1.CreateAgentRequest{Agent: &agent, Reason: c.Reason}, opts...)
			if err != nil {
				return err
			}
			return a.Print(made, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s created\nnext: reevectl token create %s, and reevectl grant\n", made.GetName(), a.Typed(made.GetName()))
				return err
			})
		})
		return err
	})
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

		ValidArgsFunction: a.ids(kind.Agent, 1),
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
token is told once and works once: used with a second key, within a day of the
first, it suspends the agent.`,
		Example: "  reevectl token create support\n  reevectl token create support --ttl 15m -o json",
		Args:    exactly(1, "AGENT"),

		ValidArgsFunction: a.ids(kind.Agent, 1),
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

func (a *app) explainCommand() *cobra.Command {
	var args, what, at string
	cmd := &cobra.Command{
		Use:   "explain AGENT SERVER/TOOL",
		Short: "Say what a call would be answered, and why",
		Long: `Decide a call as the agent's sidecar would, by the same code, and say what each
grant that could apply has to say. Nothing is called and nothing is recorded.`,
		Example: `  reevectl explain support desk/refund --args '{"amount": 900}'
  reevectl explain support desk/desk://policies/returns --kind resource`,
		Args: exactly(2, "AGENT SERVER/TOOL"),

		ValidArgsFunction: func(cmd *cobra.Command, typed []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(typed) == 1 {
				return a.ids(kind.Tool, 0)(cmd, nil, word)
			}
			return a.ids(kind.Agent, 1)(cmd, typed, word)
		},
	}
	cmd.Flags().StringVar(&args, "args", "", "the call's arguments, a JSON object")
	cmd.Flags().StringVar(&what, "kind", "tool", "what is called: tool, resource, prompt or method")
	cmd.Flags().StringVar(&at, "at", "", "the instant to decide for, such as 2027-01-31T00:00:00Z (default now)")
	complete(cmd, "kind", []string{"tool", "resource", "prompt", "method"})
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, words []string) error {
		req := &adminv1.ExplainCallRequest{Arguments: []byte(args)}
		var err error
		if req.Agent, err = a.Name(kind.Agent, words[0]); err != nil {
			return err
		}
		if req.Target, err = targetOf(what, words[1]); err != nil {
			return err
		}
		if at != "" {
			t, err := time.Parse(time.RFC3339, at)
			if err != nil {
				return session.UsageError{Err: fmt.Errorf("--at %q is not an instant such as 2027-01-31T00:00:00Z", at)}
			}
			req.Time = timestamppb.New(t)
		}
		ctx, cancel := session.Brief(ctx)
		defer cancel()
		resp, err := adminv1.NewGrantsClient(conn).ExplainCall(ctx, req)
		if err != nil {
			return err
		}
		return a.Print(resp, func(w io.Writer) error { return explained(w, resp) })
	})
	return cmd
}

func targetOf(what, text string) (*grantv1.Target, error) {
	switch what {
	case "tool":
		return &grantv1.Target{Target: &grantv1.Target_Tool{Tool: text}}, nil
	case "resource":
		return &grantv1.Target{Target: &grantv1.Target_Resource{Resource: text}}, nil
	case "prompt":
		return &grantv1.Target{Target: &grantv1.Target_Prompt{Prompt: text}}, nil
	case "method":
		return &grantv1.Target{Target: &grantv1.Target_Method{Method: text}}, nil
	default:
		return nil, session.UsageError{Err: fmt.Errorf("--kind %q: use one of tool, resource, prompt, method", what)}
	}
}

func explained(w io.Writer, resp *adminv1.ExplainCallResponse) error {
	verdict := "deny"
	if resp.GetVerdict() == decisionv1.Decision_ALLOW {
		verdict = "allow"
	}
	by := ""
	if resp.GetGrant() != "" {
		by = " by " + resp.GetGrant()
	}
	if _, err := fmt.Fprintf(w, "%s: %s%s (revision %d)\n", verdict, resp.GetReason(), by, resp.GetRevision()); err != nil {
		return err
	}
	if len(resp.GetFindings()) == 0 {
		return nil
	}
	t := &output.Table{Columns: []output.Column{{Title: "GRANT"}, {Title: "EFFECT"}, {Title: "APPLIES"}, {Title: "DETAIL", Shrinks: true}}}
	for _, f := range resp.GetFindings() {
		applies := "no"
		if f.GetApplies() {
			applies = "yes"
		}
		t.Add(kind.Short(f.GetGrant()), strings.ToLower(f.GetEffect().String()), applies, f.GetDetail())
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return t.Write(w)
}
