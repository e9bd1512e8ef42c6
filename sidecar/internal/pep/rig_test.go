package pep_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var refund = pdp.Call{Kind: pdp.Tool, Server: "support", Name: "refund"}

// mine is as whom the rig's sidecar claims sessions, and other another's.
const (
	mine  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	other = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// A rig is an enforcer with a real replica, whose clock is the test's.
type rig struct {
	*pep.Enforcer
	clock   replica.Clock
	replica *replica.Replica
	// looked is called after each look at the view.
	looked  func()
	records *records
	held    *grant.Snapshot
	began   time.Time
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	began := time.Now()
	g := &rig{
		clock:   func() time.Duration { return time.Since(began) },
		records: &records{}, held: grant.Empty(), began: began,
	}
	g.replica = replica.New(g.clock)
	g.replica.ClaimsAs(mine)
	var err error
	if g.Enforcer, err = pep.New(views{g}, g.records, slog.New(slog.DiscardHandler), noop.Meter{}); err != nil {
		tb.Fatal(err)
	}
	g.replica.OnCut(g.Recheck)
	g.replica.Extend(0, 24*time.Hour, 0, time.Now())
	g.apply(tb, nil,
		&grantv1.Agent{Name: "namespaces/default/agents/clerk", State: grantv1.Agent_ACTIVE},
		&grantv1.Server{Name: "namespaces/default/servers/support", Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://127.0.0.1:1"}}},
		&grantv1.Tool{Name: "namespaces/default/servers/support/tools/refund", Effect: grantv1.Tool_WRITE, Reach: grantv1.Tool_CLOSED},
		may("refund", time.Hour))
	return g
}

// views is the replica as the enforcer sees it.
type views struct{ *rig }

func (v views) View() *replica.View {
	view := v.replica.View()
	if v.looked != nil {
		v.looked()
	}
	return view
}

func may(id string, ttl time.Duration) *grantv1.Grant {
	return &grantv1.Grant{
		Name:       "namespaces/default/grants/" + id,
		Effect:     grantv1.Grant_ALLOW,
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "support/refund"}}},
		ExpireTime: timestamppb.New(time.Now().Add(ttl)),
	}
}

const grantName = "namespaces/default/grants/refund"

// change returns the next snapshot, without publishing it.
func (g *rig) change(tb testing.TB, remove []string, upsert ...proto.Message) *grant.Snapshot {
	tb.Helper()
	revision := g.held.Revision() + 1
	entries := make([]grant.Entry, len(upsert))
	for i, m := range upsert {
		e, err := grant.ParseEntry(m, revision)
		if err != nil {
			tb.Fatal(err)
		}
		entries[i] = e
	}
	g.held = g.held.Apply(revision, entries, remove)
	return g.held
}

func (g *rig) apply(tb testing.TB, remove []string, upsert ...proto.Message) {
	tb.Helper()
	if err := g.replica.Publish(g.change(tb, remove, upsert...)); err != nil {
		tb.Fatal(err)
	}
}

type records struct {
	mu     sync.Mutex
	lines  []string
	decide func() error // called before a decision is recorded
}

func (r *records) Decide(c pdp.Call, d pdp.Decision) (string, error) {
	if r.decide != nil {
		if err := r.decide(); err != nil {
			return "", err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf("%s %s", c.Name, d.Reason))
	return fmt.Sprintf("i-%d", len(r.lines)), nil
}

func (r *records) End(id string, status decisionv1.Outcome_Status, took time.Duration, reason pdp.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := fmt.Sprintf("%s %s %s", id, status, took)
	if status == decisionv1.Outcome_WITHDRAWN || status == decisionv1.Outcome_CUT {
		line += " " + reason.String()
	}
	r.lines = append(r.lines, line)
}

func (r *records) check(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff(want, r.lines); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}
