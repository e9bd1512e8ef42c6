package agent

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func (a *app) agentCreateCommand() *cobra.Command {
	var (
		c       session.Change
		agent   grantv1.Agent
		noToken bool
		ttl     string
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an agent, and say how its sidecar is enrolled",
		Long: `Make an agent, which may do nothing yet, and a join token, and print the
commands that enrol a sidecar for it and run it, and those by which an MCP
client reaches the servers of the namespace through it. A token is told once and
works once.`,
		Example: `  reevectl agent create support --label team=support --owner dana@example.com
  reevectl agent create support --no-token -o name`,
		Args: cli.Exactly(1, "NAME"),
	}
	c.Flags(cmd)
	f := cmd.Flags()
	f.StringToStringVarP(&agent.Labels, "label", "l", nil, "label that grants select by, key=value; may be repeated")
	f.StringVar(&agent.Owner, "owner", "", "the person who answers for the agent")
	f.StringVar(&agent.Description, "description", "", "what the agent does")
	f.BoolVar(&noToken, "no-token", false, "make no join token: reevectl token create makes one later")
	f.StringVar(&ttl, "token-ttl", "1h", "how long the token may be used, up to 7d")
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		var err error
		if agent.Name, err = a.Name(kind.Agent, args[0]); err != nil {
			return err
		}
		life, err := cli.Duration(ttl)
		if err != nil {
			return session.UsageError{Err: fmt.Errorf("--token-ttl: %w", err)}
		}
		var made *grantv1.Agent
		_, err = c.Made(ctx, c.Doubt("the agent was created", "reevectl get agent "+a.Typed(agent.GetName())),
			func(ctx context.Context, opts ...grpc.CallOption) error {
				made, err = adminv1.NewAgentsClient(conn).CreateAgent(ctx,
					&adminv1.CreateAgentRequest{Agent: &agent, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
				return err
			})
		if err != nil {
			return err
		}
		var token *adminv1.JoinToken
		if !noToken && !c.Dry && a.Format != output.AsName {
			if token, err = createToken(ctx, conn, &c, agent.GetName(), life); err != nil {
				return fmt.Errorf("%s is created, but has no join token: %w: make one with reevectl token create %s",
					agent.GetName(), err, a.Typed(agent.GetName()))
			}
		}
		return a.sayCreated(ctx, conn, &c, made, token)
	})
	return cmd
}

// sayCreated says how to go on with a new agent.
func (a *app) sayCreated(ctx context.Context, conn session.Conn, c *session.Change, agent *grantv1.Agent, token *adminv1.JoinToken) error {
	if a.Format == output.AsName {
		return a.Print(agent, nil)
	}
	if a.Format.Full() {
		d := &output.Description{}
		text, err := manifest.JSON(agent)
		if err != nil {
			return err
		}
		d.Member("agent", text)
		if token != nil {
			if text, err = manifest.JSON(token); err != nil {
				return err
			}
			d.Member("joinToken", text)
		}
		return a.PrintDescription(d)
	}
	if _, err := fmt.Fprintf(a.Out, "%s %s\n", agent.GetName(), c.Said("created")); err != nil {
		return err
	}
	if token == nil {
		_, err := fmt.Fprintf(a.Out, "next: reevectl token create %s, and reevectl grant\n", a.Typed(agent.GetName()))
		return err
	}
	if _, err := io.WriteString(a.Out, "\n"); err != nil {
		return err
	}
	if err := printToken(a.Out, token, a.Now()); err != nil {
		return err
	}
	servers, err := resources.ListOf[*grantv1.Server](ctx, conn, kind.Server, kind.NamespaceOf(agent.GetName()))
	if err != nil {
		a.Say("note: which servers there are is not known: %s", output.Visible(status.Convert(err).Message()))
	}
	return printUse(a.Out, a.Typed(agent.GetName()), servers)
}

// printUse says how to run the sidecar that was enrolled, and how clients reach
// servers through it.
func printUse(w io.Writer, agent string, servers []*grantv1.Server) error {
	if _, err := io.WriteString(w, "\nRun it:\n\n  reeve-sidecar run\n"); err != nil {
		return err
	}
	if len(servers) > 0 {
		if _, err := io.WriteString(w, "\nHave MCP clients start this, in place of the server:\n\n"); err != nil {
			return err
		}
	}
	for _, s := range servers {
		if _, err := fmt.Fprintf(w, "  reeve-sidecar mcp --server %s\n", kind.Short(s.GetName())); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\nThe agent may call nothing yet. Grant it something:\n\n  reevectl grant NAME --agent %s --tool SERVER/TOOL --ttl 30d\n", agent)
	return err
}
