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
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func (a *app) sessionCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "session",
		Short: "Start, list and end sessions: bounded runs of an agent",
		Long: `A session is one bounded run of an agent: on behalf of whom, for what, until
when, and with how many calls. It gives no authority by itself: grants may
require one, with a purpose or a user. The first of the agent's sidecars that
uses it has it.`,
		Example: `  reevectl session start support --user dana@example.com --purpose refunds
  reevectl session list support
  reevectl session end --user dana@example.com --wait`,
	})
	cmd.AddCommand(a.sessionStartCommand(), a.sessionListCommand(), a.sessionEndCommand())
	return cmd
}

func (a *app) sessionStartCommand() *cobra.Command {
	var (
		c   session.Change
		l   cli.Limits
		ttl string
		req adminv1.StartSessionRequest
	)
	cmd := &cobra.Command{
		Use:   "start AGENT",
		Short: "Start a session of an agent, on behalf of a user",
		Long: `Start a session, and print its name and how the agent uses it. You vouch for the
user and for the purpose: grants that require them take your word.`,
		Example: `  reevectl session start support --user dana@example.com --purpose refunds
  reevectl session start support --purpose triage --max-calls 20 --rate 10/1m`,
		Args:              cli.Exactly(1, "AGENT"),
		ValidArgsFunction: a.IDs(kind.Agent, 1),
	}
	c.Flags(cmd)
	l.Flags(cmd, false)
	f := cmd.Flags()
	f.StringVar(&req.User, "user", "", "on behalf of whom, as an address or a directory name")
	f.StringVar(&req.Purpose, "purpose", "", "for what, a word that grants may ask for")
	f.StringVar(&ttl, "ttl", "1h", "how long it goes on, up to 24h")
	f.StringVar(&req.Description, "description", "", "why the session exists")
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		life, err := cli.Duration(ttl)
		if err != nil {
			return session.UsageError{Err: fmt.Errorf("--ttl: %w", err)}
		}
		if req.Limits, err = l.Message(); err != nil {
			return err
		}
		if req.Parent, err = a.Name(kind.Agent, args[0]); err != nil {
			return err
		}
		req.Ttl, req.Reason, req.ValidateOnly = durationpb.New(life), c.Reason, c.Dry
		_, err = c.Made(ctx, c.Doubt("the session was started", "reevectl session list "+a.Typed(req.GetParent())),
			func(ctx context.Context, opts ...grpc.CallOption) error {
				made, err := adminv1.NewSessionsClient(conn).StartSession(ctx, &req, opts...)
				if err != nil {
					return noAgent(err, req.GetParent())
				}
				return a.Print(made, func(w io.Writer) error { return a.sayStarted(w, &c, made) })
			})
		return err
	})
	return cmd
}

func (a *app) sayStarted(w io.Writer, c *session.Change, s *grantv1.Session) error {
	id := s.GetName()[strings.LastIndex(s.GetName(), "/")+1:]
	_, err := fmt.Fprintf(w, "%s %s, ends %s\n", s.GetName(), c.Said("started"), output.Until(s.GetExpireTime(), a.Now()))
	if err != nil || c.Dry {
		return err
	}
	_, err = fmt.Fprintf(w, `The agent names it with each call, in a header, or has its launcher do so:

  Reeve-Session: %s
  reeve-sidecar mcp --server SERVER --session %s

end it with: reevectl session end %s
`, id, id, kind.Short(s.GetName())+a.elsewhere(s.GetName()))
	return err
}

// elsewhere is the flag that a short id needs, if its namespace is not the one
// that is meant without.
func (a *app) elsewhere(name string) string {
	if a.Typed(name) != name {
		return ""
	}
	return " -n " + kind.NamespaceOf(name)
}

func (a *app) sessionListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [AGENT]",
		Short: "Show the sessions that are not over",
		Example: `  reevectl session list
  reevectl session list support -o wide`,
		Args:              cli.Between(0, 1, ""),
		ValidArgsFunction: a.IDs(kind.Agent, 1),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, args []string) error {
			parent := "namespaces/" + a.Namespace + "/agents/-"
			if len(args) > 0 {
				var err error
				if parent, err = a.Name(kind.Agent, args[0]); err != nil {
					return err
				}
			}
			found, err := resources.Sessions(ctx, conn, parent)
			if err != nil {
				return noAgent(err, parent)
			}
			if a.Format.Machine() {
				return output.List(a.Out, a.Format, found)
			}
			if len(found) == 0 {
				a.Say("there are no sessions: start one with reevectl session start AGENT")
				return nil
			}
			return a.Write(resources.SessionTable(found, a.Now()))
		}),
	}
}

func (a *app) sessionEndCommand() *cobra.Command {
	var (
		c   session.Change
		req adminv1.EndSessionsRequest
	)
	cmd := &cobra.Command{
		Use:   "end AGENT/SESSION... | --agent AGENT | --user USER",
		Short: "End sessions, and cut what is open in them",
		Long: `End sessions, in one transaction and without asking: those that are named, or
all of an agent, or all on behalf of a user, or those of both.

With --wait, reevectl returns when that is in force: from then on no sidecar
begins to forward a call in one of them, and what was open is cut.`,
		Example: `  reevectl session end support/s-7f3a --wait
  reevectl session end --user dana@example.com --wait --reason 'has left'
  reevectl session end --agent support --user dana@example.com`,
		ValidArgsFunction: a.Sessions(),
	}
	c.Flags(cmd)
	cmd.Flags().StringVar(&req.Agent, "agent", "", "all sessions of this agent, by id")
	cmd.Flags().StringVar(&req.User, "user", "", "all sessions on behalf of this user")
	cli.CompleteBy(cmd, "agent", a.IDs(kind.Agent, 0))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && req.GetAgent() == "" && req.GetUser() == "":
			return cli.Usage("say what to end: AGENT/SESSION, or whose with --agent or --user")
		case len(args) > 0 && (req.GetAgent() != "" || req.GetUser() != ""):
			return cli.Usage("give AGENT/SESSION, or whose with --agent or --user, not both")
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
			return a.endSessions(ctx, conn, &c, &req, args)
		})(cmd, args)
	}
	return cmd
}

func (a *app) endSessions(ctx context.Context, conn session.Conn, c *session.Change, req *adminv1.EndSessionsRequest, ids []string) error {
	req.Parent, req.Agent = "namespaces/"+a.Namespace, kind.Short(req.GetAgent())
	req.Reason, req.ValidateOnly = c.Reason, c.Dry
	for i, id := range ids {
		name, err := kind.SessionName(id, a.Namespace)
		if err != nil {
			return session.UsageError{Err: err}
		}
		parent := "namespaces/" + kind.NamespaceOf(name)
		if i > 0 && parent != req.GetParent() {
			return cli.Usage("%s is of another namespace: end what is of one namespace at a time", name)
		}
		req.Parent = parent
		req.Names = append(req.Names, name)
	}
	var resp *adminv1.EndSessionsResponse
	_, err := c.Made(ctx, c.Doubt("they were ended", "reevectl session list"), func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		resp, err = adminv1.NewSessionsClient(conn).EndSessions(ctx, req, opts...)
		if status.Code(err) == codes.NotFound && len(ids) > 0 {
			return status.Errorf(codes.NotFound, "%s; if it was ended before, reevectl wait returns when that is in force",
				status.Convert(err).Message())
		}
		return err
	})
	if err != nil {
		return err
	}
	if a.Format.Full() {
		return a.Print(resp, nil)
	}
	if len(resp.GetNames()) == 0 && a.Format != output.AsName {
		a.Say("there were no such sessions")
	}
	for _, name := range resp.GetNames() {
		line := name
		if a.Format != output.AsName {
			line += " " + c.Said("ended")
		}
		if _, err := fmt.Fprintln(a.Out, line); err != nil {
			return err
		}
	}
	return nil
}
