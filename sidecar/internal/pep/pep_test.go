package pep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
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

// P3: the decision is on record when the call is forwarded.
func TestRecordedBeforeForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		p := g.Authorize(t.Context(), refund)
		if !p.Decision.Allow || p.ID != "i-1" {
			t.Fatalf("permit %q: %+v", p.ID, p.Decision)
		}
		sent := p.Forward(t.Context(), func(_ context.Context, server *grant.Server) bool {
			if server.URL() != "http://127.0.0.1:1" {
				t.Errorf("sent to %s", server.URL())
			}
			g.records.check(t, "refund granted")
			time.Sleep(3 * time.Second)
			return true
		})
		if !sent {
			t.Error("not sent")
		}
		p.End(t.Context(), decisionv1.Outcome_OK)
		p.End(t.Context(), decisionv1.Outcome_FAILED)
		g.records.check(t, "refund granted", "i-1 OK 3s")
	})
}

// P3: no record, no call.
func TestNoRecordNoCall(t *testing.T) {
	g := newRig(t)
	g.records.decide = func() error { return errors.New("disk full") }
	p := g.Authorize(t.Context(), refund)
	if p.Decision.Allow || p.Decision.Reason != pdp.Unavailable {
		t.Errorf("decision %+v", p.Decision)
	}
	if p.Forward(t.Context(), unsent(t)) {
		t.Error("forwarded")
	}
	p.End(t.Context(), decisionv1.Outcome_OK)
	g.records.check(t)
}

// P1 and P8: an enforcer that holds nothing, or has not heard for too long,
// denies.
func TestStaleDenies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		time.Sleep(24*time.Hour - time.Nanosecond)
		if d := g.Authorize(t.Context(), refund).Decision; d.Reason == pdp.Stale {
			t.Errorf("in the last moment: %+v", d)
		}
		time.Sleep(time.Nanosecond)
		for _, p := range []*pep.Permit{g.Authorize(t.Context(), refund), g.Admit("support", "")} {
			if p.Decision.Allow || p.Decision.Reason != pdp.Stale {
				t.Errorf("after the bound: %+v", p.Decision)
			}
		}
		if g.Visible("support", "")(pdp.Tool, "refund") {
			t.Error("visible after the bound")
		}
	})
}

func TestAdmit(t *testing.T) {
	g := newRig(t)
	if d := g.Admit("support", "").Decision; !d.Allow {
		t.Errorf("known server: %+v", d)
	}
	if d := g.Admit("billing", "").Decision; d.Allow || d.Reason != pdp.UnknownServer {
		t.Errorf("unknown server: %+v", d)
	}
	g.apply(t, nil, &grantv1.Agent{Name: "namespaces/default/agents/clerk", State: grantv1.Agent_SUSPENDED})
	if d := g.Admit("support", "").Decision; d.Allow || d.Reason != pdp.Suspended {
		t.Errorf("suspended: %+v", d)
	}
	g.apply(t, []string{"namespaces/default/agents/clerk"})
	if d := g.Admit("support", "").Decision; d.Allow || d.Reason != pdp.Suspended {
		t.Errorf("no agent: %+v", d)
	}
	g.records.check(t)
}

// P1: a call that was not filled in is denied. Only Admit admits.
func TestCallOfNoKind(t *testing.T) {
	g := newRig(t)
	if d := g.Authorize(t.Context(), pdp.Call{Server: "support"}).Decision; d.Allow || d.Reason != pdp.NotGranted {
		t.Errorf("decision %+v", d)
	}
	g.records.check(t, " not_granted")
}

// P2 and P6: what is revoked or has expired between the decision and forwarding
// is not forwarded.
func TestWithdrawn(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *rig){
		"revoked": func(t *testing.T, g *rig) { t.Helper(); g.apply(t, []string{grantName}) },
		"lapsed":  func(t *testing.T, g *rig) { t.Helper(); g.replica.Lapse() },
		"expired": func(*testing.T, *rig) { time.Sleep(time.Hour) },
		"server gone": func(t *testing.T, g *rig) {
			t.Helper()
			g.apply(t, []string{"namespaces/default/servers/support"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				p := g.Authorize(t.Context(), refund)
				lose(t, g)
				if p.Forward(t.Context(), unsent(t)) || p.Decision.Allow {
					t.Error("forwarded")
				}
				p.End(t.Context(), decisionv1.Outcome_OK)
				g.records.check(t, "refund granted", "i-1 WITHDRAWN 0s "+p.Decision.Reason.String())
			})
		})
	}
}

// unsent is a send that must not be called.
func unsent(t *testing.T) func(context.Context, *grant.Server) bool {
	t.Helper()
	return func(context.Context, *grant.Server) bool { t.Error("sent"); return true }
}

// P2 and P6: what is lost while send waits, for a connection for example, is
// seen when it asks again, whether or not anything has cut the call yet.
func TestLostWhileSending(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *rig){
		"revoked": func(t *testing.T, g *rig) {
			t.Helper()
			g.replica.OnCut(func(*replica.View) {}) // it has not come so far
			g.apply(t, []string{grantName})
		},
		"stale":   func(*testing.T, *rig) { time.Sleep(24 * time.Hour) },
		"expired": func(*testing.T, *rig) { time.Sleep(time.Hour) },
	} {
		for _, begun := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", name, begun), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := newRig(t)
					p := g.Authorize(t.Context(), refund)
					ok := p.Forward(t.Context(), func(ctx context.Context, _ *grant.Server) bool {
						if err := p.Recheck(); err != nil {
							t.Errorf("before: %v", err)
						}
						lose(t, g)
						var cut *pep.CutError
						if err := p.Recheck(); !errors.As(err, &cut) || cut.Decision.Allow {
							t.Errorf("after: %v", err)
						}
						if ctx.Err() == nil {
							t.Error("not cut")
						}
						return begun
					})
					if ok != begun {
						t.Errorf("forwarded: %t", ok)
					}
					d, taken := p.Taken()
					if !taken {
						t.Error("not taken")
					}
					p.End(t.Context(), decisionv1.Outcome_CUT)
					if begun {
						g.records.check(t, "refund granted", fmt.Sprintf("i-1 CUT %s %s", time.Since(g.began), d.Reason))
						return
					}
					g.records.check(t, "refund granted", "i-1 WITHDRAWN 0s "+d.Reason.String())
				})
			})
		}
	}
}

// P2: what is still granted goes on over a change.
func TestChangeThatKeeps(t *testing.T) {
	g := newRig(t)
	p := g.Authorize(t.Context(), refund)
	g.apply(t, nil, may("other", time.Minute))
	ok := p.Forward(t.Context(), func(ctx context.Context, _ *grant.Server) bool {
		g.apply(t, []string{"namespaces/default/grants/other"})
		if err := ctx.Err(); err != nil {
			t.Errorf("cut: %v", context.Cause(ctx))
		}
		if err := p.Recheck(); err != nil {
			t.Error(err)
		}
		return false
	})
	if !ok {
		t.Error("not forwarded")
	}
	if _, taken := p.Taken(); taken {
		t.Error("taken")
	}
}

// P2: when Publish returns, a call on lost authority has been cut, and nothing
// of it is still being sent. This is what makes an ACK mean "enforced".
func TestCutBeforePublishReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		p := g.Authorize(t.Context(), refund)
		sending, over := make(chan struct{}), make(chan struct{})
		var open context.Context
		go func() {
			p.Forward(t.Context(), func(ctx context.Context, _ *grant.Server) bool {
				open = ctx
				close(sending)
				<-ctx.Done()
				time.Sleep(time.Second) // a slow wire
				close(over)
				return true
			})
		}()
		<-sending
		g.apply(t, []string{grantName})
		select {
		case <-over:
		default:
			t.Error("published while the call was still being sent")
		}
		var cut *pep.CutError
		if !errors.As(context.Cause(open), &cut) || cut.Decision.Reason != pdp.NotGranted {
			t.Errorf("cause = %v", context.Cause(open))
		}
		if d, taken := p.Taken(); !taken || d.Reason != pdp.NotGranted {
			t.Errorf("taken = %+v, %t", d, taken)
		}
		p.End(t.Context(), decisionv1.Outcome_CUT)
		g.records.check(t, "refund granted", "i-1 CUT 1s not_granted")
	})
}

// P2, against the scheduler: whenever Publish of the revocation returns, no
// send begins any more, and every one that began has ended.
func TestNothingBeginsAfterPublish(t *testing.T) {
	for range 200 {
		g := newRig(t)
		var mu sync.Mutex
		var published bool
		late := 0
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				p := g.Authorize(t.Context(), refund)
				p.Forward(t.Context(), func(context.Context, *grant.Server) bool {
					if p.Recheck() != nil {
						return false // what any sender does first
					}
					mu.Lock()
					defer mu.Unlock()
					if published {
						late++
					}
					return true
				})
				p.End(t.Context(), decisionv1.Outcome_OK)
			})
		}
		g.apply(t, []string{grantName})
		mu.Lock()
		published = true
		mu.Unlock()
		wg.Wait()
		if late > 0 {
			t.Fatalf("%d calls were sent after the revocation was enforced", late)
		}
	}
}

// P6: an open call ends with its grant.
func TestExpiryCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		p := g.Authorize(ctx, refund)
		var open context.Context
		p.Forward(ctx, func(ctx context.Context, _ *grant.Server) bool { open = ctx; return true })
		time.Sleep(time.Hour - time.Nanosecond)
		synctest.Wait()
		if open.Err() != nil {
			t.Error("cut before the grant expired")
		}
		<-open.Done()
		if _, taken := p.Taken(); !taken {
			t.Errorf("ended by %v", context.Cause(open))
		}
		p.End(ctx, decisionv1.Outcome_CUT)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// When the enforcer stops, everything open ends.
func TestStopCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		p := g.Admit("support", "")
		var open context.Context
		p.Forward(t.Context(), func(ctx context.Context, _ *grant.Server) bool { open = ctx; return true })
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if open.Err() == nil {
			t.Error("still open")
		}
		p.End(t.Context(), decisionv1.Outcome_CUT)
		g.records.check(t) // what was only admitted leaves no record
	})
}

func TestRefuseAndWithdraw(t *testing.T) {
	g := newRig(t)
	if p := g.Refuse(t.Context(), refund, pdp.Malformed); p.Decision.Allow || p.ID != "i-1" {
		t.Errorf("%+v", p)
	}
	p := g.Authorize(t.Context(), refund)
	p.Withdraw(t.Context(), pdp.Decision{Reason: pdp.NotGranted})
	if p.Forward(t.Context(), unsent(t)) {
		t.Error("forwarded")
	}
	p.End(t.Context(), decisionv1.Outcome_OK)
	want := []string{"refund malformed", "refund granted", "i-2 WITHDRAWN 0s not_granted"}
	if !slices.Equal(g.records.lines, want) {
		t.Errorf("records = %q, want %q", g.records.lines, want)
	}
}
