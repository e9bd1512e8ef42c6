package pep_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// count has the rig's enforcer count, in a file, and draw as draw does.
func (g *rig) count(tb testing.TB, draw func(context.Context, quota.Want) error) *quota.Quota {
	tb.Helper()
	now := func() time.Time { at, _ := g.replica.View().At(); return at.Now }
	q, err := quota.Open(filepath.Join(tb.TempDir(), "quota"), now, slog.New(slog.DiscardHandler), noop.Meter{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = q.Close() })
	g.Limit(q, draw)
	return q
}

// limited is a grant with limits, whose uid is its id.
func limited(id string, l *grantv1.Limits) *grantv1.Grant {
	g := may(id, 48*time.Hour)
	g.Uid, g.Limits = id, l
	return g
}

func upTo(n int64) *grantv1.Limits { return &grantv1.Limits{MaxCalls: n} }

// every is one call per period.
func every(per time.Duration) *grantv1.Limits {
	return &grantv1.Limits{Rate: &grantv1.Rate{Calls: 1, Per: durationpb.New(per)}}
}

// sessionName is the one that calls of the tests name, by the id "s".
const sessionName = "namespaces/default/agents/clerk/sessions/s"

func session(claimant string, l *grantv1.Limits) *grantv1.Session {
	return &grantv1.Session{
		Name: sessionName, CreateTime: timestamppb.Now(), Origin: grantv1.Session_ADMIN, Claimant: claimant,
		ExpireTime: timestamppb.New(time.Now().Add(time.Hour)), Limits: l,
	}
}

// inSession is refund in the session.
func inSession() pdp.Call {
	c := refund
	c.Session = "s"
	return c
}

func begun(context.Context, *grant.Server) bool { return true }

// P1: of any number of calls at once exactly as many are forwarded as the grant and
// the session say, each decided, counted and recorded.
func TestExactlyAsMany(t *testing.T) {
	for name, l := range map[string]struct{ grant, session int64 }{"grant": {50, 0}, "session": {0, 50}, "both": {50, 70}} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.count(t, nil)
			gr, s := may("refund", time.Hour), session(mine, nil)
			if l.grant > 0 {
				gr = limited("refund", upTo(l.grant))
			}
			if l.session > 0 {
				s = session(mine, upTo(l.session))
			}
			g.apply(t, nil, gr, s)
			var through atomic.Int64
			var callers sync.WaitGroup
			for range 64 {
				callers.Go(func() {
					for range 3 {
						p := g.Authorize(t.Context(), inSession())
						if p.Forward(t.Context(), begun) {
							through.Add(1)
							p.End(t.Context(), decisionv1.Outcome_OK)
						} else if p.Decision.Reason != pdp.LimitReached {
							t.Errorf("%+v", p.Decision)
						}
					}
				})
			}
			callers.Wait()
			if n := through.Load(); n != 50 {
				t.Errorf("%d forwarded, want 50", n)
			}
		})
	}
}

// P1: what has limits allows nothing where nothing counts, nor where the counts are
// out of order; what has none goes on.
func TestNothingCounts(t *testing.T) {
	g := newRig(t)
	g.apply(t, []string{grantName}, limited("few", upTo(10)))
	if d := g.Authorize(t.Context(), refund).Decision; d.Allow || d.Reason != pdp.Unavailable {
		t.Errorf("%+v", d)
	}
	q := g.count(t, nil)
	if d := g.Authorize(t.Context(), refund).Decision; !d.Allow {
		t.Errorf("%+v", d)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if d := g.Authorize(t.Context(), refund).Decision; d.Allow || d.Reason != pdp.Unavailable {
		t.Errorf("%+v", d)
	}
	g.apply(t, nil, may("refund", time.Hour))
	if d := g.Authorize(t.Context(), refund).Decision; !d.Allow || d.Grant != grantName {
		t.Errorf("%+v", d)
	}
}

// P1: a grant that is used up does not apply: the next is tried, and if there is
// none the call is denied with the reason.
func TestUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.count(t, nil)
		g.apply(t, []string{grantName}, limited("a", upTo(2)), limited("b", every(time.Minute)))
		for range 5 {
			g.Authorize(t.Context(), refund)
		}
		time.Sleep(time.Minute)
		g.Authorize(t.Context(), refund)
		g.apply(t, []string{"namespaces/default/grants/b"})
		g.Authorize(t.Context(), refund)
		g.records.check(t, "refund granted", "refund granted", "refund granted", "refund rate_limited",
			"refund rate_limited", "refund granted", "refund limit_reached")
	})
}

// P3: a call that is not made is not counted: its record failed, it was withdrawn
// before a byte of it left, or none did.
func TestGivenBack(t *testing.T) {
	unmade := map[string]func(*testing.T, *rig){
		"record": func(t *testing.T, g *rig) {
			t.Helper()
			g.records.decide = func() error { return errors.New("full") }
			if d := g.Authorize(t.Context(), inSession()).Decision; d.Reason != pdp.Unavailable {
				t.Errorf("%+v", d)
			}
			g.records.decide = nil
		},
		"withdrawn": func(t *testing.T, g *rig) {
			t.Helper()
			g.Authorize(t.Context(), inSession()).Withdraw(t.Context(), pdp.Decision{Reason: pdp.Forbidden})
		},
		"revoked": func(t *testing.T, g *rig) {
			t.Helper()
			p := g.Authorize(t.Context(), inSession())
			g.apply(t, []string{"namespaces/default/grants/one"})
			if p.Forward(t.Context(), unsent(t)) {
				t.Error("forwarded")
			}
			g.apply(t, nil, limited("one", upTo(1)))
		},
		"cut while waiting": func(t *testing.T, g *rig) {
			t.Helper()
			p := g.Authorize(t.Context(), inSession())
			if p.Forward(t.Context(), func(context.Context, *grant.Server) bool {
				g.replica.OnCut(func(*replica.View) {}) // it would wait for this
				g.apply(t, []string{"namespaces/default/grants/one"})
				if p.Recheck() == nil {
					t.Error("not cut")
				}
				return false
			}) {
				t.Error("forwarded")
			}
			g.apply(t, nil, limited("one", upTo(1)))
		},
		"no connection": func(t *testing.T, g *rig) {
			t.Helper()
			p := g.Authorize(t.Context(), inSession())
			p.Forward(t.Context(), func(context.Context, *grant.Server) bool { return false })
			p.End(t.Context(), decisionv1.Outcome_FAILED)
		},
	}
	for name, call := range unmade {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.count(t, nil)
			g.apply(t, []string{grantName}, limited("one", upTo(1)), session(mine, upTo(1)))
			for range 3 {
				call(t, g)
			}
			p := g.Authorize(t.Context(), inSession())
			if !p.Forward(t.Context(), begun) {
				t.Fatalf("a call that was not made is counted: %+v", p.Decision)
			}
			p.End(t.Context(), decisionv1.Outcome_OK)
			if d := g.Authorize(t.Context(), inSession()).Decision; d.Allow {
				t.Error("a call that was made is not counted")
			}
		})
	}
}

// P2: what a call has taken itself is not used up for it: it goes on over changes
// and rechecks, and no other limit counts it meanwhile.
func TestOwnTakesAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.count(t, nil)
		// a is asked first, and is free again a second later.
		g.apply(t, []string{grantName}, limited("a", every(time.Second)), limited("z", upTo(1)), session(mine, upTo(2)))
		first := g.Authorize(t.Context(), inSession())
		if first.Decision.Grant != "namespaces/default/grants/a" || !first.Forward(t.Context(), begun) {
			t.Fatalf("%+v", first.Decision)
		}
		p := g.Authorize(t.Context(), inSession())
		if p.Decision.Grant != "namespaces/default/grants/z" {
			t.Fatalf("%+v", p.Decision)
		}
		time.Sleep(2 * time.Second)
		ok := p.Forward(t.Context(), func(context.Context, *grant.Server) bool {
			for range 3 {
				if err := p.Recheck(); err != nil {
					t.Error(err)
				}
				g.apply(t, nil, may("other", time.Minute))
				g.apply(t, []string{"namespaces/default/grants/other"})
			}
			return true
		})
		if _, taken := p.Taken(); !ok || taken {
			t.Error("cut")
		}
		c := refund // in no session: a has counted nobody since
		if d := g.Authorize(t.Context(), c).Decision; d.Grant != "namespaces/default/grants/a" {
			t.Errorf("a counted a call that it did not allow: %+v", d)
		}
		first.End(t.Context(), decisionv1.Outcome_OK)
		p.End(t.Context(), decisionv1.Outcome_OK)
	})
}

// P1, P2: a call that comes to rest on another limit is counted by that, and cut if
// nothing is left of it.
func TestRestsOnAnother(t *testing.T) {
	g := newRig(t)
	g.count(t, nil)
	g.apply(t, []string{grantName}, limited("a", upTo(10)), limited("b", upTo(1)))
	var permits [2]*pep.Permit
	for i := range permits {
		permits[i] = g.Authorize(t.Context(), refund)
		permits[i].Forward(t.Context(), begun)
	}
	g.apply(t, []string{"namespaces/default/grants/a"})
	cut := 0
	for _, p := range permits {
		d, taken := p.Taken()
		if taken {
			cut++
			if d.Reason != pdp.LimitReached {
				t.Errorf("%+v", d)
			}
		}
		p.End(t.Context(), decisionv1.Outcome_OK)
	}
	if cut != 1 {
		t.Errorf("%d of 2 cut, where one call is left", cut)
	}
	if d := g.Authorize(t.Context(), refund).Decision; d.Reason != pdp.LimitReached {
		t.Errorf("b did not count: %+v", d)
	}
}
