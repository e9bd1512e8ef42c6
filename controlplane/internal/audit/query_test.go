package audit

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

func everything() *adminv1.DecisionFilter { return &adminv1.DecisionFilter{Parent: "namespaces/-"} }

func listPage(tb testing.TB, client adminv1.DecisionsClient, f *adminv1.DecisionFilter, size int32, token string) *adminv1.ListDecisionsResponse {
	tb.Helper()
	res, err := client.ListDecisions(tb.Context(), &adminv1.ListDecisionsRequest{Filter: f, PageSize: size, PageToken: token})
	if err != nil {
		tb.Fatal(err)
	}
	return res
}

// listAll follows the pages to the end.
func listAll(tb testing.TB, client adminv1.DecisionsClient, f *adminv1.DecisionFilter, size int32) []*adminv1.LoggedDecision {
	tb.Helper()
	var all []*adminv1.LoggedDecision
	for token := ""; ; {
		page := listPage(tb, client, f, size, token)
		all = append(all, page.GetDecisions()...)
		if token = page.GetNextPageToken(); token == "" {
			return all
		}
	}
}

func ids(decisions []*adminv1.LoggedDecision) []string {
	var all []string
	for _, d := range decisions {
		all = append(all, d.GetRecord().GetDecision().GetId())
	}
	return all
}

// traffic is what two agents of one namespace and one of another did: every
// third call is denied, and the fifth and last allowed one have not ended.
func traffic() (chains []*chain, decisions []string, open map[string]bool) {
	open = make(map[string]bool)
	for i, agent := range []string{agentA, agentB, "namespaces/finance/agents/carol"} {
		c := &chain{agent: agent, instance: fmt.Sprintf("%032x", i+1)}
		var waiting []string
		for n := range 40 {
			if n%3 == 0 {
				decisions = append(decisions, c.deny("refund"))
				continue
			}
			id := c.allow()
			decisions = append(decisions, id)
			switch {
			case n == 5 || n == 38:
				open[id] = true
			case n%4 == 0: // Ends much later.
				waiting = append(waiting, id)
			default:
				c.end(id)
			}
		}
		for _, id := range waiting {
			c.end(id)
		}
		chains = append(chains, c)
	}
	return chains, decisions, open
}

func TestListIsNewestFirstWithOutcomes(t *testing.T) {
	chains, _, open := traffic()
	l := openLog(t, t.TempDir())
	client, decisions := serve(t, l)
	for _, c := range chains {
		pushAll(t, client, c, 7)
	}
	for _, size := range []int32{1, 3, 10, 1000} {
		var want []string
		for _, c := range slices.Backward(chains) {
			for i, encoded := range slices.Backward(c.records) {
				r := &decisionv1.Record{}
				mustUnmarshal(t, encoded, r)
				if r.GetDecision() != nil {
					want = append(want, fmt.Sprintf("%s-%d", c.instance, i+1))
				}
			}
		}
		got := listAll(t, decisions, everything(), size)
		if !slices.Equal(ids(got), want) {
			t.Fatalf("pages of %d: got %d decisions, want %d, newest first:\n%v\n%v", size, len(got), len(want), ids(got), want)
		}
		for _, d := range got {
			id := d.GetRecord().GetDecision().GetId()
			ended := d.GetRecord().GetDecision().GetVerdict() == decisionv1.Decision_ALLOW && !open[id]
			if (d.GetOutcome() != nil) != ended || (ended && d.GetOutcome().GetDecision() != id) {
				t.Errorf("pages of %d: outcome of %s is %v", size, id, d.GetOutcome())
			}
		}
	}
}

// Records are small and pages are counted in them; large ones must fit a message
// all the same.
func TestListOfLargeRecords(t *testing.T) {
	const total = 300
	c := &chain{agent: agentA, instance: instanceA}
	var want []string
	for range total {
		want = append(want, c.decide(decisionv1.Decision_DENY, "refund", strings.Repeat("r", 15<<10)))
	}
	slices.Reverse(want)
	client, decisions := serve(t, openLog(t, t.TempDir()))
	pushAll(t, client, c, 100)
	if got := listAll(t, decisions, everything(), 1000); !slices.Equal(ids(got), want) {
		t.Errorf("got %d decisions, want %d", len(got), total)
	}
}

// A page token is a caller's word. One of a place that no log has is answered
// like any other, and at once.
func TestTokenFarBehindTheEnd(t *testing.T) {
	c := &chain{agent: agentA, instance: instanceA}
	id := c.deny("refund")
	client, decisions := serve(t, openLog(t, t.TempDir()))
	pushAll(t, client, c, 1)
	for _, position := range []uint64{2, 1 << 62, math.MaxUint64} {
		token, err := place{position: position}.token(everything())
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(listPage(t, decisions, everything(), 10, token).GetDecisions()); !slices.Equal(got, []string{id}) {
			t.Errorf("from position %d: got %v", position, got)
		}
	}
}

func TestFilters(t *testing.T) {
	chains, all, _ := traffic()
	l := openLog(t, t.TempDir())
	client, decisions := serve(t, l)
	for _, c := range chains {
		pushAll(t, client, c, 5)
	}
	at := func(n int) *timestamppb.Timestamp { return timestamppb.New(start.Add(time.Duration(n) * time.Second)) }
	for _, tc := range []struct {
		name string
		f    *adminv1.DecisionFilter
		want int
	}{
		{"everything", everything(), 120},
		{"namespace", &adminv1.DecisionFilter{Parent: "namespaces/support"}, 80},
		{"agent", &adminv1.DecisionFilter{Parent: "namespaces/support", Agent: "bob"}, 40},
		{"agent of any namespace", &adminv1.DecisionFilter{Parent: "namespaces/-", Agent: "carol"}, 40},
		{"nobody", &adminv1.DecisionFilter{Parent: "namespaces/finance", Agent: "bob"}, 0},
		{"verdict", &adminv1.DecisionFilter{Parent: "namespaces/-", Verdict: decisionv1.Decision_DENY}, 42},
		{"reason", &adminv1.DecisionFilter{Parent: "namespaces/-", Reason: "granted"}, 78},
		{"session", &adminv1.DecisionFilter{Parent: "namespaces/-", Session: sessionA}, 14},
		{"session of the agent", &adminv1.DecisionFilter{Parent: "namespaces/support", Agent: "alice", Session: sessionA}, 14},
		{"another session", &adminv1.DecisionFilter{Parent: "namespaces/-", Session: agentA + "/sessions/s2"}, 0},
		{"target", &adminv1.DecisionFilter{Parent: "namespaces/-", Target: "tickets/refund"}, 42},
		{"server", &adminv1.DecisionFilter{Parent: "namespaces/-", Target: "tickets/*"}, 120},
		{"other server", &adminv1.DecisionFilter{Parent: "namespaces/-", Target: "mail/*"}, 0},
		{"id", &adminv1.DecisionFilter{Parent: "namespaces/-", Id: all[50]}, 1},
		{"id of another namespace", &adminv1.DecisionFilter{Parent: "namespaces/finance", Id: all[0]}, 0},
		{"from", &adminv1.DecisionFilter{Parent: "namespaces/support", Agent: "alice", StartTime: at(3)}, 38},
		{"until", &adminv1.DecisionFilter{Parent: "namespaces/support", Agent: "alice", EndTime: at(3)}, 2},
		{"long ago", &adminv1.DecisionFilter{Parent: "namespaces/-", EndTime: at(-1)}, 0},
		{"all of it", &adminv1.DecisionFilter{Parent: "namespaces/support", Agent: "bob", Target: "tickets/read", Verdict: decisionv1.Decision_ALLOW, Reason: "granted"}, 26},
	} {
		for _, size := range []int32{2, 0} {
			got := listAll(t, decisions, tc.f, size)
			if len(got) != tc.want {
				t.Errorf("%s, pages of %d: %d decisions, want %d", tc.name, size, len(got), tc.want)
			}
		}
	}
}

// A start time ends the search where the log is older, and not before.
func TestStartTimeEndsTheSearch(t *testing.T) {
	l := openLog(t, t.TempDir())
	client, _ := serve(t, l)
	pushAll(t, client, aChain(20), 1)
	_, _, done, err := list(t.Context(), l, filter{subject: sourceA.subject(), start: time.Now().Add(2 * clockSkew)}, place{}, 1000)
	if err != nil || !done {
		t.Errorf("done %v, %v", done, err)
	}
	page, _, _, err := list(t.Context(), l, filter{subject: sourceA.subject(), start: start}, place{}, 1000)
	if err != nil || len(page) != 10 {
		t.Errorf("%d decisions, %v; want 10", len(page), err)
	}
}

// A rare agent is found in a log of others' records.
func TestListFindsTheRare(t *testing.T) {
	l := openLog(t, t.TempDir())
	client, decisions := serve(t, l)
	rare := &chain{agent: agentB, instance: instanceB}
	var want []string
	common := aChain(600)
	mine, rarely := openPush(t, client, agentA), openPush(t, client, agentB)
	for i := int64(1); i <= 600; i++ {
		if _, err := push(mine, common.batch(i, i)); err != nil {
			t.Fatal(err)
		}
		if i == 1 || i == 50 || (i > 300 && i < 340) || i == 599 {
			want = append(want, rare.deny("x"))
			n := int64(len(want))
			if _, err := push(rarely, rare.batch(n, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	slices.Reverse(want)
	got := listAll(t, decisions, &adminv1.DecisionFilter{Parent: "namespaces/support", Agent: "bob"}, 7)
	if !slices.Equal(ids(got), want) {
		t.Errorf("found %d decisions, want %d", len(got), len(want))
	}
}

func TestQuestionsThatCannotBeAnswered(t *testing.T) {
	l := openLog(t, t.TempDir())
	client, decisions := serve(t, l)
	pushAll(t, client, aChain(20), 5)
	token := listPage(t, decisions, everything(), 1, "").GetNextPageToken()
	if token == "" {
		t.Fatal("no next page")
	}
	for name, req := range map[string]*adminv1.ListDecisionsRequest{
		"no filter":             {},
		"parent":                {Filter: &adminv1.DecisionFilter{Parent: "namespaces/>"}},
		"agent is a wildcard":   {Filter: &adminv1.DecisionFilter{Parent: "namespaces/-", Agent: "*"}},
		"agent is two tokens":   {Filter: &adminv1.DecisionFilter{Parent: "namespaces/-", Agent: "a.b"}},
		"target without server": {Filter: &adminv1.DecisionFilter{Parent: "namespaces/-", Target: "refund"}},
		"id":                    {Filter: &adminv1.DecisionFilter{Parent: "namespaces/-", Id: "*-1"}},
		"session":               {Filter: &adminv1.DecisionFilter{Parent: "namespaces/-", Session: "s1"}},
		"session of another":    {Filter: &adminv1.DecisionFilter{Parent: "namespaces/support", Agent: "bob", Session: sessionA}},
		"session from outside":  {Filter: &adminv1.DecisionFilter{Parent: "namespaces/finance", Session: sessionA}},
		"token":                 {Filter: everything(), PageToken: "AAAA"},
		"token is no base64":    {Filter: everything(), PageToken: "!"},
		"token of another query": {
			Filter: &adminv1.DecisionFilter{Parent: "namespaces/support"}, PageToken: token,
		},
	} {
		_, err := decisions.ListDecisions(t.Context(), req)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
}

func TestFollow(t *testing.T) {
	l := openLog(t, t.TempDir())
	client, decisions := serve(t, l)
	before := &chain{agent: agentB, instance: instanceB}
	before.deny("before")
	pushAll(t, client, before, 1)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := decisions.FollowDecisions(ctx, &adminv1.FollowDecisionsRequest{Filter: &adminv1.DecisionFilter{
		Parent: "namespaces/support", Agent: "alice", Verdict: decisionv1.Decision_ALLOW,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil { // From here on nothing is missed.
		t.Fatal(err)
	}
	before.deny("of bob")
	pushAll(t, client, before, 2)
	c := &chain{agent: agentA, instance: instanceA}
	c.deny("denied")
	id := c.allow()
	c.end(id)
	pushAll(t, client, c, 2)
	for _, want := range c.records[1:] {
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		r := &decisionv1.Record{}
		mustUnmarshal(t, want, r)
		if !proto.Equal(got.GetRecord(), r) {
			t.Errorf("got %v, want %v", got.GetRecord(), r)
		}
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("after the caller ended it: %v", err)
	}
}

func TestSlowFollowerIsToldSo(t *testing.T) {
	if got := status.Code(statusOf(t.Context(), discard(), journal.ErrBehind)); got != codes.ResourceExhausted {
		t.Errorf("on the wire: %v", got)
	}
}

func mustUnmarshal(tb testing.TB, b []byte, m proto.Message) {
	tb.Helper()
	if err := proto.Unmarshal(b, m); err != nil {
		tb.Fatal(err)
	}
}

func mergeInto(dst, src proto.Message) { proto.Merge(dst, src) }
