package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
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
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// granting is what the flags of the grant command say.
type granting struct {
	agents, tools, resources, prompts, methods []string
	selector                                   map[string]string
	condition, description, ttl, expire        string
	bound                                      string
	forbid                                     bool
}

// subjectFlags adds the flags that say for whom.
func (g *granting) subjectFlags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&g.agents, "agent", nil, "agent, by id; may be repeated")
	f.StringToStringVarP(&g.selector, "label", "l", nil, "agents that have this label, key=value; may be repeated")
	completeBy(cmd, "agent", a.ids(kind.Agent, 0))
}

// targetFlags adds the flags that say what.
func (g *granting) targetFlags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&g.tools, "tool", nil, `tool: server/tool, server/* or *; may be repeated`)
	f.StringArrayVar(&g.resources, "resource", nil, "resource: server/uri or server/prefix*; may be repeated")
	f.StringArrayVar(&g.prompts, "prompt", nil, "prompt: server/prompt or server/*; may be repeated")
	f.StringArrayVar(&g.methods, "method", nil, "other method: server/method or server/*; may be repeated")
	completeBy(cmd, "tool", a.ids(kind.Tool, 0))
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
instead: one forbid beats every allow. For what flags cannot say, use apply.`,
		Example: `  reevectl grant refunds --agent support --tool desk/refund --ttl 720h \
    --condition 'args.amount <= 500'
  reevectl grant read --label team=support --tool 'desk/*' --ttl 30d
  reevectl grant freeze --label team=support --tool '*' --forbid --ttl 1d --wait`,
		Args: exactly(1, "NAME"),
	}
	c.Flags(cmd)
	f := cmd.Flags()
	g.subjectFlags(a, cmd)
	g.targetFlags(a, cmd)
	f.StringVar(&g.condition, "condition", "", "CEL expression over agent, tool, args and now that must be true")
	f.StringVar(&g.description, "description", "", "why the grant exists")
	f.StringVar(&g.ttl, "ttl", "", "how long the grant applies, such as 8h or 30d")
	f.StringVar(&g.expire, "expire", "", "until when the grant applies, such as 2027-01-31T00:00:00Z")
	f.StringVar(&g.bound, "freshness-bound", "", "how long a sidecar that hears nothing may go on acting on this grant,\n"+
		"and so how long its revocation can take, 1s to 15m (default the control plane's)")
	f.BoolVar(&g.forbid, "forbid", false, "forbid instead of allow")
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		m, err := a.grantOf(args[0], &g)
		if err != nil {
			return err
		}
		doubt := c.Doubt("the grant was created", "reevectl get grant "+a.Typed(m.GetName()))
		_, err = c.Made(ctx, doubt, func(ctx context.Context, opts ...grpc.CallOption) error {
			made, err := adminv1.NewGrantsClient(conn).CreateGrant(ctx, &adminv1.CreateGrantRequest{Grant: m, Reason: c.Reason}, opts...)
			if err != nil {
				return err
			}
			return a.Print(made, func(w io.Writer) error {
				bound := ""
				if made.GetFreshnessBound() != nil {
					bound = ", freshness bound " + output.Duration(made.GetFreshnessBound().AsDuration())
				}
				_, err := fmt.Fprintf(w, "%s created, expires %s%s\n", made.GetName(), output.Until(made.GetExpireTime(), a.Now()), bound)
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
		bound, err := parseDuration(g.bound)
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
		d, err := parseDuration(g.ttl)
		if err != nil {
			return nil, session.UsageError{Err: fmt.Errorf("--ttl: %w", err)}
		}
		return timestamppb.New(now.Add(d).Truncate(time.Second)), nil
	default:
		return nil, session.UsageError{Err: fmt.Errorf("grant %q: expire_time is required, for all authority ends: add --ttl 720h", id)}
	}
}

// parseDuration reads a length of time, in days too.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n > 0 && n < 36500 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	} else if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not a length of time such as 15m, 8h or 30d", s)
}

func (a *app) revokeCommand() *cobra.Command {
	var (
		c session.Change
		g granting
	)
	cmd := &cobra.Command{
		Use:   "revoke GRANT... | --agent AGENT [--tool SERVER/TOOL]",
		Short: "Take authority away, by grant or by agent",
		Long: `Take authority away, all of it in one transaction and without asking.

Grants that are named are removed. Agents that are named, or that have a label,
are forbidden what the flags say, or everything if they say nothing, by one new
grant that beats all others, also those to come: its name is printed, with the
command that lifts it.

With --wait, reevectl returns when the revocation is in force: from then on no
sidecar anywhere begins to forward a call on the revoked authority, and what was
open on it is cut.`,
		Example: `  # Remove grants:
  reevectl revoke refunds --wait
  reevectl revoke refunds credits --wait --reason 'leaked prompt'
  # Forbid agents everything, or some things, whatever they are granted:
  reevectl revoke --agent support --wait
  reevectl revoke -l team=support --tool 'desk/*' --resource 'desk/*' --wait`,
		ValidArgsFunction: a.ids(kind.Grant, 0),
	}
	c.Flags(cmd)
	g.subjectFlags(a, cmd)
	g.targetFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && g.subjects() == nil && g.targets() == nil:
			return session.UsageError{Err: errors.New("say what to revoke: GRANT, or whose with --agent or --label")}
		case g.subjects() == nil && g.targets() != nil:
			return session.UsageError{Err: errors.New("say whom to forbid that: add --agent or --label")}
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
			return a.revoke(ctx, conn, &c, &adminv1.RevokeGrantsRequest{Subjects: g.subjects(), Targets: g.targets(), Reason: c.Reason}, args)
		})(cmd, args)
	}
	return cmd
}

// revoke revokes the grants of the ids, which must be of one namespace, and what
// the request has already.
func (a *app) revoke(ctx context.Context, conn session.Conn, c *session.Change, req *adminv1.RevokeGrantsRequest, ids []string) error {
	req.Parent = "namespaces/" + a.Namespace
	for i, id := range ids {
		name, err := a.Name(kind.Grant, id)
		if err != nil {
			return err
		}
		parent := "namespaces/" + kind.NamespaceOf(name)
		if i > 0 && parent != req.GetParent() || req.GetSubjects() != nil && parent != "namespaces/"+a.Namespace {
			return session.UsageError{Err: fmt.Errorf("%s is of another namespace: revoke what is of one namespace at a time, with -n", name)}
		}
		req.Parent = parent
		req.Names = append(req.Names, name)
	}
	doubt := c.Doubt("it was revoked", "reevectl changes --limit 1")
	var resp *adminv1.RevokeGrantsResponse
	_, err := c.Made(ctx, doubt, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		resp, err = adminv1.NewGrantsClient(conn).RevokeGrants(ctx, req, opts...)
		if status.Code(err) == codes.NotFound && len(ids) > 0 {
			return status.Errorf(codes.NotFound, "%s; if it was revoked before, reevectl wait returns when that is in force",
				status.Convert(err).Message())
		}
		return err
	})
	if err != nil {
		return err
	}
	covered := resources.CountCovered(ctx, a.Session, conn, resp.GetForbid())
	return a.Print(resp, func(w io.Writer) error {
		return resources.WriteRevoked(w, req.GetNames(), resp.GetForbid(), covered)
	})
}
