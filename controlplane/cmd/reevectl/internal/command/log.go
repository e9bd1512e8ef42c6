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
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// search is what the flags of the decisions command say.
type search struct {
	everywhere                         bool
	agent, target, verdict, reason, id string
	since, until                       string
	limit                              int
	follow                             bool
}

func (a *app) decisionsCommand() *cobra.Command {
	var s search
	cmd := &cobra.Command{
		Use:   "decisions",
		Short: "Show what agents tried, and what they were answered",
		Long: `Show decisions, newest first, or with --follow as they are stored. The columns
are the essence; -o json has the decision's id, its revision and its outcome.`,
		Example: `  reevectl decisions --agent support --since 1h
  reevectl decisions --verdict deny --reason condition_false
  reevectl decisions --tool 'desk/*' --follow`,
		Args: exactly(0, ""),
	}
	f := cmd.Flags()
	f.BoolVarP(&s.everywhere, "all-namespaces", "A", false, "of all namespaces")
	f.StringVar(&s.agent, "agent", "", "of this agent, by id")
	f.StringVar(&s.target, "tool", "", "of this server/tool, or server/*")
	f.StringVar(&s.verdict, "verdict", "", "allow or deny")
	f.StringVar(&s.reason, "reason", "", "with this reason, such as not_granted")
	f.StringVar(&s.id, "id", "", "the decision of this id, as the agent was told it")
	f.StringVar(&s.since, "since", "", "not before: 15m, 8h, 2d ago, or an instant")
	f.StringVar(&s.until, "until", "", "before: 15m, 8h, 2d ago, or an instant")
	f.IntVar(&s.limit, "limit", 100, "how many to show at the most; 0 is all")
	f.BoolVarP(&s.follow, "follow", "f", false, "show decisions as they are stored, from now on")
	complete(cmd, "verdict", []string{"allow", "deny"})
	completeBy(cmd, "agent", a.ids(kind.Agent, 0))
	cmd.Args = countable(cmd.Args, &s.limit)
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
		filter, err := a.filter(&s)
		if err != nil {
			return err
		}
		client := adminv1.NewDecisionsClient(conn)
		if s.follow {
			return a.followDecisions(ctx, client, filter)
		}
		return a.listDecisions(ctx, client, filter, s.limit)
	})
	return cmd
}

// countable adds to what arguments a command takes that its limit is none or more.
func countable(args cobra.PositionalArgs, limit *int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, words []string) error {
		if *limit < 0 {
			return session.UsageError{Err: fmt.Errorf("--limit %d: give how many to show at the most, or 0 for all", *limit)}
		}
		return args(cmd, words)
	}
}

// filter makes the filter that the flags say.
func (a *app) filter(s *search) (*adminv1.DecisionFilter, error) {
	f := &adminv1.DecisionFilter{
		Parent: "namespaces/" + a.Namespace, Agent: kind.Short(s.agent), Target: s.target, Reason: s.reason, Id: s.id,
	}
	if s.everywhere {
		f.Parent = "namespaces/-"
	}
	switch s.verdict {
	case "":
	case "allow":
		f.Verdict = decisionv1.Decision_ALLOW
	case "deny":
		f.Verdict = decisionv1.Decision_DENY
	default:
		return nil, session.UsageError{Err: fmt.Errorf("--verdict %q: use allow or deny", s.verdict)}
	}
	var err error
	if f.StartTime, err = instant("--since", s.since, a.Now()); err != nil {
		return nil, err
	}
	f.EndTime, err = instant("--until", s.until, a.Now())
	return f, err
}

// instant reads an instant, or how long ago it was.
func instant(flag, text string, now time.Time) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no instant was given, and none is meant
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return timestamppb.New(t), nil
	}
	d, err := parseDuration(text)
	if err != nil {
		return nil, session.UsageError{Err: fmt.Errorf("%s: %w, nor an instant such as 2027-01-31T00:00:00Z", flag, err)}
	}
	return timestamppb.New(now.Add(-d)), nil
}

func (a *app) listDecisions(ctx context.Context, client adminv1.DecisionsClient, filter *adminv1.DecisionFilter, limit int) error {
	found, err := session.Pages(ctx, limit, func(ctx context.Context, size int32, token string) (*adminv1.ListDecisionsResponse, error) {
		return client.ListDecisions(ctx, &adminv1.ListDecisionsRequest{Filter: filter, PageSize: size, PageToken: token})
	}, (*adminv1.ListDecisionsResponse).GetDecisions)
	if err != nil {
		return err
	}
	if a.Format.Machine() {
		return output.List(a.Out, a.Format, found)
	}
	if len(found) == 0 {
		a.Say("there are no such decisions")
		return nil
	}
	t := decisionTable()
	for _, d := range found {
		t.Add(decisionRow(d.GetRecord(), d.GetOutcome(), a.Now())...)
	}
	return t.Write(a.Out)
}

func decisionTable() *output.Table {
	return &output.Table{Columns: []output.Column{
		{Title: "TIME"},
		{Title: "AGENT", Names: true},
		{Title: "TARGET", Names: true},
		{Title: "VERDICT"},
		{Title: "REASON"},
		{Title: "GRANT", Names: true},
	}}
}

// decisionRow is a decision's row. An outcome is worth a word if it is not the
// one that was hoped for.
func decisionRow(r *decisionv1.Record, o *decisionv1.Outcome, now time.Time) []string {
	d := r.GetDecision()
	verdict := strings.ToLower(d.GetVerdict().String())
	if o != nil && o.GetStatus() != decisionv1.Outcome_OK {
		verdict += ", " + strings.ToLower(o.GetStatus().String())
	}
	return []string{
		output.Clock(r.GetTime(), now), kind.Short(r.GetAgent()), d.GetServer() + "/" + d.GetTarget(),
		verdict, d.GetReason(), kind.Short(d.GetGrant()),
	}
}

// followDecisions prints records as they come, until ctx ends.
func (a *app) followDecisions(ctx context.Context, client adminv1.DecisionsClient, filter *adminv1.DecisionFilter) error {
	stream, err := client.FollowDecisions(ctx, &adminv1.FollowDecisionsRequest{Filter: filter})
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) || ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if a.Format.Machine() {
			err = output.Line(a.Out, a.Format, resp.GetRecord())
		} else {
			err = printRecord(a.Out, resp.GetRecord(), a.Now())
		}
		if err != nil {
			return err
		}
	}
}

// printRecord prints a record as a line. It cannot know what comes, so its
// columns are of a fixed width.
func printRecord(w io.Writer, r *decisionv1.Record, now time.Time) error {
	if o := r.GetOutcome(); o != nil {
		if o.GetStatus() == decisionv1.Outcome_OK {
			return nil
		}
		_, err := fmt.Fprintf(w, "%-8s  %-14s  %s ended: %s\n", output.Clock(r.GetTime(), now),
			output.Visible(kind.Short(r.GetAgent())), output.Visible(o.GetDecision()), strings.ToLower(o.GetStatus().String()))
		return err
	}
	row := decisionRow(r, nil, now)
	for i, cell := range row {
		row[i] = output.Visible(cell)
	}
	line := fmt.Sprintf("%-8s  %-14s  %-24s  %-5s  %-15s  %s", row[0], row[1], row[2], row[3], row[4], row[5])
	_, err := io.WriteString(w, strings.TrimRight(line, " ")+"\n")
	return err
}

func (a *app) changesCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "changes",
		Short: "Show who changed what, when and why",
		Long: `Show administrative changes, newest first. Each was recorded in the transaction
that made it; -o json has the digests of what was before and after.`,
		Example: "  reevectl changes --limit 10\n  reevectl changes -o json",
		Args:    exactly(0, ""),
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many to show at the most; 0 is all")
	cmd.Args = countable(cmd.Args, &limit)
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
		found, err := session.Pages(ctx, limit, func(ctx context.Context, size int32, token string) (*adminv1.ListChangesResponse, error) {
			return adminv1.NewChangesClient(conn).ListChanges(ctx, &adminv1.ListChangesRequest{PageSize: size, PageToken: token})
		}, (*adminv1.ListChangesResponse).GetChanges)
		if err != nil {
			return err
		}
		if a.Format.Machine() {
			return output.List(a.Out, a.Format, found)
		}
		return a.printChanges(a.Out, found)
	})
	return cmd
}

func (a *app) printChanges(w io.Writer, found []*adminv1.Change) error {
	t := &output.Table{Columns: []output.Column{
		{Title: "REVISION"},
		{Title: "TIME"},
		{Title: "ACTOR", Names: true},
		{Title: "ACTION"},
		{Title: "WHAT", Names: true},
		{Title: "REASON", Shrinks: true},
	}}
	for _, c := range found {
		var what []string
		for _, e := range c.GetEntries() {
			what = append(what, kind.Short(e.GetName()))
		}
		actor := c.GetActor()[strings.LastIndex(c.GetActor(), "/")+1:]
		action := c.GetAction()[strings.LastIndex(c.GetAction(), "/")+1:]
		t.Add(strconv.FormatInt(c.GetRevision(), 10), output.Clock(c.GetTime(), a.Now()), actor, action, strings.Join(what, ","), c.GetReason())
	}
	return t.Write(w)
}

func (a *app) waitCommand() *cobra.Command {
	var c session.Change
	cmd := &cobra.Command{
		Use:   "wait [REVISION]",
		Short: "Wait until a change is in force on every sidecar",
		Long: `Wait until a revision, or everything until now, is in force: every sidecar has
applied it, or is past its freshness bound and denies.`,
		Example: "  reevectl wait\n  reevectl wait 1042 --timeout 15m",
		Args:    between(0, 1, ""),
	}
	c.TimeoutFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var revision int64
		if len(args) == 1 {
			var err error
			if revision, err = strconv.ParseInt(args[0], 10, 64); err != nil || revision <= 0 {
				return session.UsageError{Err: fmt.Errorf("%q is not a revision: give the number that a change told", args[0])}
			}
		}
		return c.CallToWait(a.Session, revision)(cmd, args)
	}
	return cmd
}
