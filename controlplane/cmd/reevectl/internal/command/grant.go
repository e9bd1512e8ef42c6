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
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// granting is what the flags of the grant command say.
type granting struct {
	agents, tools, resources, prompts, methods []string
	selector                                   map[string]string
	condition, description, ttl, expire        string
	forbid                                     bool
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
	f.StringSliceVar(&g.agents, "agent", nil, "agent, by id; may be repeated")
	f.StringToStringVarP(&g.selector, "label", "l", nil, "agents that have this label, key=value; may be repeated")
	f.StringArrayVar(&g.tools, "tool", nil, `tool: server/tool, server/* or *; may be repeated`)
	f.StringArrayVar(&g.resources, "resource", nil, "resource: server/uri or server/prefix*; may be repeated")
	f.StringArrayVar(&g.prompts, "prompt", nil, "prompt: server/prompt or server/*; may be repeated")
	f.StringArrayVar(&g.methods, "method", nil, "other method: server/method or server/*; may be repeated")
	f.StringVar(&g.condition, "condition", "", "CEL expression over agent, tool, args and now that must be true")
	f.StringVar(&g.description, "description", "", "why the grant exists")
	f.StringVar(&g.ttl, "ttl", "", "how long the grant applies, such as 8h or 30d")
	f.StringVar(&g.expire, "expire", "", "until when the grant applies, such as 2027-01-31T00:00:00Z")
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
				_, err := fmt.Fprintf(w, "%s created, expires %s\n", made.GetName(), output.Until(made.GetExpireTime(), a.Now()))
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
		Subjects: &grantv1.Subjects{},
	}
	if g.forbid {
		m.Effect = grantv1.Grant_FORBID
	}
	for _, agent := range g.agents {
		m.Subjects.Agents = append(m.Subjects.Agents, kind.Short(agent))
	}
	if len(g.selector) > 0 {
		m.Subjects.Selector = &grantv1.LabelSelector{MatchLabels: g.selector}
	}
	for _, t := range g.tools {
		m.Targets = append(m.Targets, &grantv1.Target{Target: &grantv1.Target_Tool{Tool: t}})
	}
	for _, t := range g.resources {
		m.Targets = append(m.Targets, &grantv1.Target{Target: &grantv1.Target_Resource{Resource: t}})
	}
	for _, t := range g.prompts {
		m.Targets = append(m.Targets, &grantv1.Target{Target: &grantv1.Target_Prompt{Prompt: t}})
	}
	for _, t := range g.methods {
		m.Targets = append(m.Targets, &grantv1.Target{Target: &grantv1.Target_Method{Method: t}})
	}
	if m.ExpireTime, err = g.end(id, a.Now()); err != nil {
		return nil, err
	}
	switch {
	case len(g.agents) == 0 && len(g.selector) == 0:
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
	var c session.Change
	cmd := &cobra.Command{
		Use:   "revoke GRANT...",
		Short: "Take grants away",
		Long: `Remove grants. With --wait, reevectl returns when the revocation is in force:
from then on no sidecar anywhere begins to forward a call on the revoked
authority, and what was open on it is cut.`,
		Example: "  reevectl revoke refunds --wait\n  reevectl revoke refunds --wait --timeout 15m --reason 'leaked prompt'",
		Args:    between(1, 0, "GRANT"),
	}
	c.Flags(cmd)
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		err := a.remove(ctx, conn, &c, kind.Grant, args, "revoked")
		if status.Code(err) == codes.NotFound {
			return fmt.Errorf("%s; if it was revoked before, reevectl wait returns when that is in force",
				output.Visible(status.Convert(err).Message()))
		}
		return err
	})
	return cmd
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
