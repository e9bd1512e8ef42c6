package record

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/clitest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func decided(sequence int64, verdict decisionv1.Decision_Verdict, target, reason, grant string) *decisionv1.Record {
	return &decisionv1.Record{
		Agent: "namespaces/support/agents/frontline", Instance: "i", Sequence: sequence, Time: timestamppb.New(now),
		Entry: &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
			Id: "i-1", Server: "desk", Kind: decisionv1.Decision_TOOL, Target: target, Verdict: verdict, Reason: reason, Grant: grant,
		}},
	}
}

// logged is a log of three decisions, the newest first, in pages of one.
type logged struct {
	adminv1.UnimplementedDecisionsServer
}

var decisions = []*adminv1.LoggedDecision{
	{Record: decided(4, decisionv1.Decision_DENY, "refund\x1b[2J", "not_granted", "")},
	{
		Record:  decided(2, decisionv1.Decision_ALLOW, "refund", "granted", "namespaces/support/grants/refunds"),
		Outcome: &decisionv1.Outcome{Status: decisionv1.Outcome_CUT},
	},
	{
		Record:  decided(1, decisionv1.Decision_ALLOW, "refund", "granted", "namespaces/support/grants/refunds"),
		Outcome: &decisionv1.Outcome{Status: decisionv1.Outcome_OK},
	},
}

func (logged) ListDecisions(_ context.Context, req *adminv1.ListDecisionsRequest) (*adminv1.ListDecisionsResponse, error) {
	at := len(req.GetPageToken())
	resp := &adminv1.ListDecisionsResponse{Decisions: decisions[at : at+1]}
	if at+1 < len(decisions) {
		resp.NextPageToken = req.GetPageToken() + "x"
	}
	return resp, nil
}

func (logged) FollowDecisions(_ *adminv1.FollowDecisionsRequest, stream grpc.ServerStreamingServer[adminv1.FollowDecisionsResponse]) error {
	outcome := func(status decisionv1.Outcome_Status) *decisionv1.Record {
		r := decided(9, 0, "", "", "")
		r.Entry = &decisionv1.Record_Outcome{Outcome: &decisionv1.Outcome{Decision: "i-1", Status: status}}
		return r
	}
	for _, r := range []*decisionv1.Record{
		decisions[0].GetRecord(), outcome(decisionv1.Outcome_OK), outcome(decisionv1.Outcome_WITHDRAWN), decisions[2].GetRecord(),
	} {
		if err := stream.Send(&adminv1.FollowDecisionsResponse{Record: r}); err != nil {
			return err
		}
	}
	return nil
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	conn := clitest.Serve(t, func(s *grpc.Server) { adminv1.RegisterDecisionsServer(s, logged{}) })
	client := adminv1.NewDecisionsClient(conn)
	for name, c := range map[string]struct {
		run  func(*app) error
		want string
	}{
		"all": {
			func(a *app) error { return a.listDecisions(t.Context(), conn, &adminv1.DecisionFilter{}, 0) },
			`TIME      AGENT      TARGET                VERDICT     REASON       GRANT
12:00:00  frontline  desk/refund\u001b[2J  deny        not_granted
12:00:00  frontline  desk/refund           allow, cut  granted      refunds
12:00:00  frontline  desk/refund           allow       granted      refunds
`,
		},
		"one": {
			func(a *app) error { return a.listDecisions(t.Context(), conn, &adminv1.DecisionFilter{}, 1) },
			`TIME      AGENT      TARGET                VERDICT  REASON       GRANT
12:00:00  frontline  desk/refund\u001b[2J  deny     not_granted
`,
		},
		"followed": {
			func(a *app) error { return a.followDecisions(t.Context(), client, &adminv1.DecisionFilter{}) },
			`12:00:00  frontline       desk/refund\u001b[2J      deny   not_granted
12:00:00  frontline       i-1 ended: withdrawn
12:00:00  frontline       desk/refund               allow  granted          refunds
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			a := &app{&cli.App{Session: &session.Session{
				Process: session.Process{Out: &got, Now: func() time.Time { return now }}, Format: output.AsTable,
			}}}
			if err := c.run(a); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTablesFit(t *testing.T) {
	t.Parallel()
	clitest.Fits(t, "changes", changeTable([]*adminv1.Change{{
		Revision: 1_000_000, Time: timestamppb.New(now.Add(-time.Hour * 24 * 40)), Actor: "spiffe://x/admin/" + clitest.Long, Action: "/x/RequestSomethingLongish",
		Reason: clitest.Long, Entries: []*adminv1.Change_Entry{{Name: "namespaces/x/agents/" + clitest.Long}, {Name: "namespaces/x/agents/" + clitest.Long}},
	}}, now))
}
