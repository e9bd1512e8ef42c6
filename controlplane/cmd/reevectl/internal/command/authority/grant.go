// Package authority has the commands that give authority, take it away, and say
// who has it.
package authority

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// app is the session that the commands are of.
type app struct{ *cli.App }

// Commands returns those that give and take authority, and those that say who has
// it.
func Commands(c *cli.App) (change, see []*cobra.Command) {
	a := &app{c}
	return []*cobra.Command{a.grantCommand(), a.revokeCommand()}, []*cobra.Command{a.explainCommand(), a.whoCanCommand()}
}

// granting is what the flags of the grant command say.
type granting struct {
	agents, tools, resources, prompts, methods []string
	selector                                   map[string]string
	condition, description, ttl, expire        string
	bound                                      string
	forbid                                     bool
	limits                                     cli.Limits
	purposes, users                            []string
	anyUser, selfOpened                        bool
}

// subjectFlags adds the flags that say for whom.
func (g *granting) subjectFlags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&g.agents, "agent", nil, "agent, by id; may be repeated")
	f.StringToStringVarP(&g.selector, "label", "l", nil, "agents that have this label, key=value; may be repeated")
	cli.CompleteBy(cmd, "agent", a.IDs(kind.Agent, 0))
}

// targetFlags adds the flags that say what.
func (g *granting) targetFlags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&g.tools, "tool", nil, `tool: server/tool, server/* or *; may be repeated`)
	f.StringArrayVar(&g.resources, "resource", nil, "resource: server/uri or server/prefix*; may be repeated")
	f.StringArrayVar(&g.prompts, "prompt", nil, "prompt: server/prompt or server/*; may be repeated")
	f.StringArrayVar(&g.methods, "method", nil, "other method: server/method or server/*; may be repeated")
	cli.CompleteBy(cmd, "tool", a.IDs(kind.Tool, 0))
}

// sessionFlags adds the flags that say in what session.
func (g *granting) sessionFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&g.purposes, "session-purpose", nil, "only in a session for this purpose; may be repeated: any of them")
	f.StringSliceVar(&g.users, "session-user", nil, "only in a session on behalf of this user; may be repeated: any of\nthem")
	f.BoolVar(&g.anyUser, "any-user", false, "only in a session on behalf of some user")
	f.BoolVar(&g.selfOpened, "self-opened", false, "only in a session, which the agent may have opened itself: its\npurpose is the agent's word")
}

// session is what session the flags ask for; nil is none.
func (g *granting) session() (*grantv1.SessionRequirement, error) {
	if len(g.purposes) == 0 && len(g.users) == 0 && !g.anyUser && !g.selfOpened {
		return nil, nil //nolint:nilnil // no session was asked for, and none is meant
	}
	if g.selfOpened && (len(g.users) > 0 || g.anyUser) {
		return nil, cli.Usage("--self-opened does not go with a user: a session that an agent opened itself is on behalf of nobody")
	}
	return &grantv1.SessionRequirement{Purposes: g.purposes, Users: g.users, AnyUser: g.anyUser, SelfOpened: g.selfOpened}, nil
}

// subjects is for whom the flags say; nil is for nobody.
func (g *granting) subjects() *grantv1.Subjects {
	if len(g.agents) == 0 && len(g.selector) == 0 {
		return nil
	}
	s := &grantv1.Subjects{}
	for _, agent := range g.agents {
		s.Agents = append(s.Agents, kind.Short(agent))
	}
	if len(g.selector) > 0 {
		s.Selector = &grantv1.LabelSelector{MatchLabels: g.selector}
	}
	return s
}

// targets is what the flags say.
func (g *granting) targets() []*grantv1.Target {
	var all []*grantv1.Target
	for _, t := range g.tools {
		all = append(all, &grantv1.Target{Target: &grantv1.Target_Tool{Tool: t}})
	}
	for _, t := range g.resources {
		all = append(all, &grantv1.Target{Target: &grantv1.Target_Resource{Resource: t}})
	}
	for _, t := range g.prompts {
		all = append(all, &grantv1.Target{Target: &grantv1.Target_Prompt{Prompt: t}})
	}
	for _, t := range g.methods {
		all = append(all, &grantv1.Target{Target: &grantv1.Target_Method{Method: t}})
	}
	return all
}

func (a *app) grantCommand() *cobra.Command {
	var (
		c session.Change
		g granting
	)
	cmd := &cobra.Command{
		Use:   "grant NAME --agent AGENT --tool SERVER/TOOL --ttl DURATION",
		Short: "Allow or forbid agents something, for a time",
		Long: `Create a grant: allow agents, by id or by label, to use tools, resources,
prompts or other methods of a server, for a time. With --forbid, forbid it
instead: one forbid beats every allow. It can be made to hang on a condition, on
a session, and on how often it was used. For what flags cannot say, use apply.`,
		Example: `  reevectl grant refunds --agent support --tool desk/refund --ttl 720h \
    --condition 'args.amount <= 500'
  reevectl grant read --label team=support --tool 'desk/*' --ttl 30d
  reevectl grant lookups --agent support --tool 'crm/*' --ttl 30d \
    --session-purpose triage --any-user --rate 10/1m
  reevectl grant credits --agent support --tool desk/credit --ttl 7d \
    --max-calls 100 --limit-scope agent
  reevectl grant freeze --label team=support --tool '*' --forbid --ttl 1d --wait`,
		Args: cli.Exactly(1, "NAME"),
	}
	c.Flags(cmd)
	f := cmd.Flags()
	g.subjectFlags(a, cmd)
	g.targetFlags(a, cmd)
	g.limits.Flags(cmd, true)
	g.sessionFlags(cmd)
	f.StringVar(&g.condition, "condition", "", "CEL expression over agent, user, session, tool, args and now that\nmust be true")
	f.StringVar(&g.description, "description", "", "why the grant exists")
	f.StringVar(&g.ttl, "ttl", "", "how long the grant applies, such as 8h or 30d")
	f.StringVar(&g.expire, "expire", "", "until when the grant applies, such as 2027-01-31T00:00:00Z")
	f.StringVar(&g.bound, "freshness-bound", "", "how long a sidecar that hears nothing may go on acting on this\n"+
		"grant, and so how long its revocation can take, 1s to 15m (default\nthe control plane's)")
	f.BoolVar(&g.forbid, "forbid", false, "forbid instead of allow")
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		m, err := a.grantOf(args[0], &g)
		if err != nil {
			return err
		}
		doubt := c.Doubt("the grant was created", "reevectl get grant "+a.Typed(m.GetName()))
		_, err = c.Made(ctx, doubt, func(ctx context.Context, opts ...grpc.CallOption) error {
			made, err := adminv1.NewGrantsClient(conn).CreateGrant(ctx, &adminv1.CreateGrantRequest{Grant: m, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
			if err != nil {
				return err
			}
			return a.Print(made, func(w io.Writer) error {
				bound := ""
				if made.GetFreshnessBound() != nil {
					bound = ", freshness bound " + output.Duration(made.GetFreshnessBound().AsDuration())
				}
				_, err := fmt.Fprintf(w, "%s %s, expires %s%s\n", made.GetName(), c.Said("created"), output.Until(made.GetExpireTime(), a.Now()), bound)
				return err
			})
		})
		return err
	})
	return cmd
}

// grantOf makes the grant that the flags say.
func (a *app) grantOf(id string, g *granting) (*grantv1.Grant, error) {
	name, err := a.Name(kind.Grant, id)
	if err != nil {
		return nil, err
	}
	m := &grantv1.Grant{
		Name: name, Description: g.description, Effect: grantv1.Grant_ALLOW, Condition: g.condition,
		Subjects: g.subjects(), Targets: g.targets(),
	}
	if g.forbid {
		m.Effect = grantv1.Grant_FORBID
	}
	if g.bound != "" {
		bound, err := cli.Duration(g.bound)
		switch {
		case err != nil:
			return nil, session.UsageError{Err: fmt.Errorf("--freshness-bound: %w", err)}
		case g.forbid:
			return nil, session.UsageError{Err: errors.New("--freshness-bound is of a grant that allows: what is forbidden stays so")}
		case bound < time.Second || bound > 15*time.Minute:
			return nil, session.UsageError{Err: fmt.Errorf("--freshness-bound %s: give 1s to 15m", g.bound)}
		}
		m.FreshnessBound = durationpb.New(bound)
	}
	if m.Limits, err = g.limits.Message(); err != nil {
		return nil, err
	}
	if m.Session, err = g.session(); err != nil {
		return nil, err
	}
	if g.forbid && (m.GetLimits() != nil || m.GetSession() != nil) {
		return nil, cli.Usage("limits and sessions are of a grant that allows: what is forbidden stays so")
	}
	if m.ExpireTime, err = g.end(id, a.Now()); err != nil {
		return nil, err
	}
	switch {
	case m.GetSubjects() == nil:
		return nil, session.UsageError{Err: fmt.Errorf("grant %q: it is for nobody: name agents with --agent or --label", id)}
	case len(m.GetTargets()) == 0:
		return nil, session.UsageError{Err: fmt.Errorf("grant %q: there is nothing to call: add --tool server/tool", id)}
	}
	return m, nil
}

// end returns when a grant ends.
func (g *granting) end(id string, now time.Time) (*timestamppb.Timestamp, error) {
	switch {
	case g.ttl != "" && g.expire != "":
		return nil, session.UsageError{Err: errors.New("give --ttl or --expire, not both")}
	case g.expire != "":
		t, err := time.Parse(time.RFC3339, g.expire)
		if err != nil {
			return nil, session.UsageError{Err: fmt.Errorf("--expire %q is not an instant such as 2027-01-31T00:00:00Z", g.expire)}
		}
		return timestamppb.New(t), nil
	case g.ttl != "":
		d, err := cli.Duration(g.ttl)
		if err != nil {
			return nil, session.UsageError{Err: fmt.Errorf("--ttl: %w", err)}
		}
		return timestamppb.New(now.Add(d).Truncate(time.Second)), nil
	default:
		return nil, session.UsageError{Err: fmt.Errorf("grant %q: expire_time is required, for all authority ends: add --ttl 720h", id)}
	}
}
