// Package record has the commands that read the records of decisions and of
// changes.
package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// app is the session that the commands are of.
type app struct{ *cli.App }

// Commands returns the commands.
func Commands(c *cli.App) []*cobra.Command {
	a := &app{c}
	return []*cobra.Command{a.decisionsCommand(), a.changesCommand()}
}

// search is what the flags of the decisions command say.
type search struct {
	everywhere                         bool
	agent, target, verdict, reason, id string
	session                            string
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
		Args: cli.Exactly(0, ""),
	}
	f := cmd.Flags()
	f.BoolVarP(&s.everywhere, "all-namespaces", "A", false, "of all namespaces")
	f.StringVar(&s.agent, "agent", "", "of this agent, by id")
	f.StringVar(&s.target, "tool", "", "of this server/tool, or server/*")
	f.StringVar(&s.verdict, "verdict", "", "allow or deny")
	f.StringVar(&s.reason, "reason", "", "with this reason, such as not_granted")
	f.StringVar(&s.id, "id", "", "the decision of this id, as the agent was told it")
	f.StringVar(&s.session, "session", "", "made in this session, agent/session")
	f.StringVar(&s.since, "since", "", "not before: 15m, 8h, 2d ago, or an instant")
	f.StringVar(&s.until, "until", "", "before: 15m, 8h, 2d ago, or an instant")
	f.IntVar(&s.limit, "limit", 100, "how many to show at the most; 0 is all")
	f.BoolVarP(&s.follow, "follow", "f", false, "show decisions as they are stored, from now on")
	cli.Complete(cmd, "verdict", []string{"allow", "deny"})
	cli.CompleteBy(cmd, "agent", a.IDs(kind.Agent, 0))
	cli.CompleteBy(cmd, "session", a.Sessions())
	cli.CompleteBy(cmd, "tool", a.IDs(kind.Tool, 0))
	cmd.Args = cli.Countable(cmd.Args, &s.limit)
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
		filter, err := a.filter(&s)
		if err != nil {
			return err
		}
		if s.follow {
			return a.followDecisions(ctx, adminv1.NewDecisionsClient(conn), filter)
		}
		return a.listDecisions(ctx, conn, filter, s.limit)
	})
	return cmd
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
	if s.session != "" {
		if f.Session, err = kind.SessionName(s.session, a.Namespace); err != nil {
			return nil, session.UsageError{Err: err}
		}
	}
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
	d, err := cli.Duration(text)
	if err != nil {
		return nil, session.UsageError{Err: fmt.Errorf("%s: %w, nor an instant such as 2027-01-31T00:00:00Z", flag, err)}
	}
	return timestamppb.New(now.Add(-d)), nil
}

func (a *app) listDecisions(ctx context.Context, conn session.Conn, filter *adminv1.DecisionFilter, limit int) error {
	found, err := resources.Decisions(ctx, conn, filter, limit)
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
	return a.Write(resources.DecisionTable(found, a.Now()))
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
	row := resources.DecisionRow(r, nil, now)
	for i, cell := range row {
		row[i] = output.Visible(cell)
	}
	line := fmt.Sprintf("%-8s  %-14s  %-24s  %-5s  %-15s  %s", row[0], row[1], row[2], row[3], row[4], row[5])
	_, err := io.WriteString(w, strings.TrimRight(line, " ")+"\n")
	return err
}
