package pep_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// within is the grant of tool n with a bound of its own; 0 is none.
func within(n int, bound time.Duration) *grantv1.Grant {
	g := may(fmt.Sprintf("n%d", n), time.Hour)
	g.Targets = []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: fmt.Sprintf("support/n%d", n)}}}
	if bound > 0 {
		g.FreshnessBound = durationpb.New(bound)
	}
	return g
}

func call(n int) pdp.Call {
	return pdp.Call{Kind: pdp.Tool, Server: "support", Name: fmt.Sprintf("n%d", n)}
}

// bounded has the rig hold a grant for each bound, heard of at this moment, with
// a bound of 10 s for those that name none and no grant longer than longest.
func (g *rig) bounded(t *testing.T, longest time.Duration, bounds ...time.Duration) {
	t.Helper()
	for n, b := range bounds {
		g.apply(t, nil, &grantv1.Tool{
			Name: grant.ToolName("default", "support", fmt.Sprintf("n%d", n)), Effect: grantv1.Tool_WRITE, Reach: grantv1.Tool_CLOSED,
		}, within(n, b))
	}
	time.Sleep(time.Nanosecond)
	g.began = time.Now()
	g.replica.Extend(g.clock(), 10*time.Second, longest, time.Now())
}

// P2: an open call is cut at the bound of its own grant, at the instant, or at the
// longest that the answer allows, and the protocol's own when nothing may be acted
// on any more.
func TestCutAtOwnBound(t *testing.T) {
	for _, longest := range []time.Duration{time.Minute, 30 * time.Second} {
		testCutAtOwnBound(t, longest)
	}
}

func testCutAtOwnBound(t *testing.T, longest time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		bounds := []time.Duration{0, time.Second, 2345 * time.Millisecond, time.Minute}
		g.bounded(t, longest, bounds...)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.replica.Run(ctx) }()

		permits := []*pep.Permit{g.Admit("support", "")}
		for n := range bounds {
			permits = append(permits, g.Authorize(ctx, call(n)))
		}
		for i, want := range []time.Duration{longest, 10 * time.Second, time.Second, 2345 * time.Millisecond, longest} {
			permits[i].Forward(ctx, func(ctx context.Context, _ *grant.Server) bool {
				context.AfterFunc(ctx, func() {
					var cut *pep.CutError
					if !errors.As(context.Cause(ctx), &cut) || cut.Decision.Reason != pdp.Stale {
						t.Errorf("permit %d ended by %v", i, context.Cause(ctx))
					}
					if took := time.Since(g.began); took != want {
						t.Errorf("permit %d cut after %s, want %s", i, took, want)
					}
				})
				return true
			})
		}
		time.Sleep(time.Hour)
		for i, p := range permits {
			if _, taken := p.Taken(); !taken {
				t.Errorf("permit %d is still open", i)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// P2: what is stale by its own bound is denied and not listed, and what is not
// goes on beside it.
func TestStaleByOwnBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.bounded(t, time.Second, 0, time.Second)
		time.Sleep(time.Second)
		for n, want := range []pdp.Reason{pdp.Granted, pdp.Stale} {
			if d := g.Authorize(t.Context(), call(n)).Decision; d.Reason != want || d.Allow != (want == pdp.Granted) {
				t.Errorf("call %d: %+v", n, d)
			}
			if listed := g.Visible("support", "")(pdp.Tool, call(n).Name); listed != (want == pdp.Granted) {
				t.Errorf("call %d is listed: %t", n, listed)
			}
		}
		g.records.check(t, "n0 granted", "n1 stale")
	})
}

// P2: to decide takes a moment. What is lost in it is not forwarded, though it
// was allowed when the decision began.
func TestLostWhileDeciding(t *testing.T) {
	for name, c := range map[string]struct {
		look int // after which look at the view it is lost: the second ends the decision
		lose func(*testing.T, *rig)
	}{
		"revoked": {1, func(t *testing.T, g *rig) { t.Helper(); g.apply(t, []string{"namespaces/default/grants/n1"}) }},
		"lapsed":  {1, func(t *testing.T, g *rig) { t.Helper(); g.replica.Lapse() }},
		"stale":   {2, func(*testing.T, *rig) { time.Sleep(time.Second) }},
		"answered anew": {1, func(_ *testing.T, g *rig) {
			asked := g.clock()
			time.Sleep(time.Second - 1)
			g.replica.Extend(asked+1, time.Second/2, 0, time.Now())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				g.bounded(t, time.Second, 0, time.Second)
				g.replica.OnCut(func(*replica.View) {}) // it has not come so far
				p := g.Authorize(t.Context(), call(1))
				looks := 0
				g.looked = func() {
					if looks++; looks == c.look {
						c.lose(t, g)
					}
				}
				if p.Forward(t.Context(), unsent(t)) || p.Decision.Allow {
					t.Error("forwarded")
				}
				g.records.check(t, "n1 granted", "i-1 WITHDRAWN 0s "+p.Decision.Reason.String())
			})
		})
	}
}
