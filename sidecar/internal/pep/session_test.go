package pep_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// P2: when a session ends, is over or is another sidecar's, what is open in it is
// cut: calls and what the protocol itself keeps open. What is in no session goes on.
func TestSessionEndCuts(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*testing.T, *rig)
		want pdp.Reason
		took time.Duration
	}{
		"ended": {func(t *testing.T, g *rig) { t.Helper(); g.apply(t, []string{sessionName}) }, pdp.SessionEnded, 0},
		"claimed": {func(t *testing.T, g *rig) {
			t.Helper()
			s := session(other, nil)
			g.apply(t, nil, s)
		}, pdp.SessionClaimed, 0},
		"over": {func(*testing.T, *rig) { time.Sleep(time.Hour + expiryCheck) }, pdp.SessionEnded, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				g.count(t, nil)
				g.apply(t, nil, may("refund", 24*time.Hour), session(mine, nil))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- g.Run(ctx) }()
				open := []*pep.Permit{g.Authorize(ctx, inSession()), g.Admit("support", "s"), g.Authorize(ctx, refund)}
				for i, p := range open {
					if !p.Forward(ctx, begun) {
						t.Fatalf("%d: %+v", i, p.Decision)
					}
				}
				c.end(t, g)
				synctest.Wait()
				for i, p := range open[:2] {
					if d, taken := p.Taken(); !taken || d.Reason != c.want {
						t.Errorf("%d: %+v, %t", i, d, taken)
					}
				}
				if _, taken := open[2].Taken(); taken {
					t.Error("what is in no session was cut")
				}
				if d := g.Authorize(ctx, inSession()).Decision; d.Allow || d.Reason != c.want {
					t.Errorf("%+v", d)
				}
				for _, p := range open {
					p.End(ctx, decisionv1.Outcome_CUT)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// expiryCheck is how long at the most after its end a session's calls are cut.
const expiryCheck = time.Second

// P1: a session that nobody has claimed is nobody's, and what may be listed depends
// on the session.
func TestUnclaimed(t *testing.T) {
	g := newRig(t)
	g.count(t, nil)
	gr := may("refund", time.Hour)
	gr.Session = &grantv1.SessionRequirement{AnyUser: true}
	s := session("", nil)
	s.User = "ada@example.test"
	g.apply(t, nil, gr, s)
	if d := g.Authorize(t.Context(), inSession()).Decision; d.Reason != pdp.SessionClaimed {
		t.Errorf("%+v", d)
	}
	s = session(mine, nil)
	s.User = "ada@example.test"
	g.apply(t, nil, s)
	if d := g.Authorize(t.Context(), inSession()).Decision; !d.Allow || d.Session != sessionName {
		t.Errorf("%+v", d)
	}
	if d := g.Authorize(t.Context(), refund).Decision; d.Reason != pdp.SessionRequired {
		t.Errorf("%+v", d)
	}
	if g.Visible("support", "")(pdp.Tool, "refund") || !g.Visible("support", "s")(pdp.Tool, "refund") {
		t.Error("listed outside of the session, or not in it")
	}
}

// shared is a grant of n calls for all sidecars together.
func shared(n int64) *grantv1.Grant {
	return limited("shared", &grantv1.Limits{MaxCalls: n, Scope: grantv1.Limits_ALL})
}

// drawer gives so many calls at each draw.
type drawer struct {
	calls, left int64
	err         error
	drawn       int
}

func (d *drawer) DrawCalls(context.Context, string, string, int64, string) (calls, left int64, err error) {
	d.drawn++
	calls = min(d.calls, d.left)
	d.left -= calls
	return calls, d.left, d.err
}

// P1: where nothing drawn is left a call waits until more is, and is denied with the
// reason if there is none, or if that cannot be known.
func TestDrawsForACall(t *testing.T) {
	g := newRig(t)
	d := &drawer{calls: 1, left: 2}
	var q *quota.Quota
	q = g.count(t, func(ctx context.Context, w quota.Want) error { return q.Draw(ctx, d, w) })
	g.apply(t, []string{grantName}, shared(8))
	for range 4 {
		g.Authorize(t.Context(), refund)
	}
	g.records.check(t, "refund granted", "refund granted", "refund limit_reached", "refund limit_reached")
	if d.drawn != 3 {
		t.Errorf("drawn %d times, want 3: that nothing is left is known", d.drawn)
	}
	g.apply(t, nil, shared(8)) // another revision
	d.err = errors.New("offline")
	if p := g.Authorize(t.Context(), refund); p.Decision.Allow || p.Decision.Reason != pdp.Unavailable {
		t.Errorf("%+v", p.Decision)
	}
	g.apply(t, nil, may("refund", time.Hour))
	if p := g.Authorize(t.Context(), refund); p.Decision.Grant != grantName {
		t.Errorf("%+v", p.Decision)
	}
}

// A call waits for a draw for no longer than it may.
func TestDrawIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.count(t, func(ctx context.Context, _ quota.Want) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		g.apply(t, []string{grantName}, shared(8))
		began := time.Now()
		if p := g.Authorize(t.Context(), refund); p.Decision.Reason != pdp.Unavailable {
			t.Errorf("%+v", p.Decision)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// What has limits is found, and nothing else.
func TestLimited(t *testing.T) {
	g := newRig(t)
	s := session(mine, upTo(3))
	g.apply(t, nil, limited("few", upTo(10)), s)
	var names []string
	for w := range pep.Limited(g.replica.View().Snapshot) {
		names = append(names, w.Grant)
		if w.Expire.IsZero() {
			t.Error("no end")
		}
	}
	if len(names) != 2 {
		t.Errorf("%q", names)
	}
	_ = grant.Empty()
}
