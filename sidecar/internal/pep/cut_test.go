package pep_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

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
