package pep_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// A racing is counts that have room whenever they are looked at, and of which
// others take the last before each of the first lost takes.
type racing struct {
	lost  int
	why   quota.Room
	takes int
}

func (r *racing) Look(*quota.Want) quota.Room { return quota.Free }

func (r *racing) Take(...quota.Want) (quota.Receipt, quota.Room) {
	if r.takes++; r.takes <= r.lost {
		return quota.Receipt{}, r.why
	}
	return quota.Receipt{}, quota.Free
}

func (r *racing) GiveBack(*quota.Receipt) {}

// P1: to look is not to take. A call that loses the last of a limit to another is
// decided again, and is never let through uncounted.
func TestLosesARace(t *testing.T) {
	for name, c := range map[string]struct {
		racing
		want  pdp.Reason
		takes int
	}{
		"never":      {racing{}, pdp.Granted, 1},
		"once":       {racing{lost: 1, why: quota.Reached}, pdp.Granted, 2},
		"for ever":   {racing{lost: 1 << 30, why: quota.Reached}, pdp.LimitReached, 64},
		"to a rate":  {racing{lost: 1 << 30, why: quota.Limited}, pdp.RateLimited, 64},
		"drained":    {racing{lost: 1 << 30, why: quota.Dry}, pdp.LimitReached, 64},
		"full disk":  {racing{lost: 1, why: quota.Broken}, pdp.Unavailable, 1},
		"no meaning": {racing{lost: 1, why: 99}, pdp.Unavailable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			r := c.racing
			g.Limit(&r, nil)
			g.apply(t, []string{grantName}, limited("few", upTo(10)))
			d := g.Authorize(t.Context(), refund).Decision
			if d.Allow != (c.want == pdp.Granted) || d.Reason != c.want || r.takes != c.takes {
				t.Errorf("%+v after %d takes, want %s after %d", d, r.takes, c.want, c.takes)
			}
		})
	}
}

// A together is counts whose takes wait a while for another.
type together struct {
	*quota.Quota
	taking atomic.Int64
}

func (c *together) Take(wants ...quota.Want) (quota.Receipt, quota.Room) {
	c.taking.Add(1)
	for i := 0; i < 100_000 && c.taking.Load() == 1; i++ {
		runtime.Gosched()
	}
	return c.Quota.Take(wants...)
}

// A call that is looked at twice at the same moment, by who writes it and by who
// has taken its grant, counts once against what it then rests on.
func TestCountedOnce(t *testing.T) {
	g := newRig(t)
	counts := &together{Quota: g.count(t, nil)}
	g.Limit(counts, nil)
	g.apply(t, nil, limited("zwei", upTo(2)))
	p := g.Authorize(t.Context(), refund)
	p.Forward(t.Context(), begun)
	g.replica.OnCut(func(*replica.View) {}) // the test looks instead
	g.apply(t, []string{grantName})
	var looking sync.WaitGroup
	for range 2 {
		looking.Go(func() {
			if err := p.Recheck(); err != nil {
				t.Error(err)
			}
		})
	}
	looking.Wait()
	p.End(t.Context(), decisionv1.Outcome_OK)
	if p = g.Authorize(t.Context(), refund); !p.Decision.Allow {
		t.Errorf("the second of two: %+v", p.Decision)
	}
}

// A call that was withdrawn counts nothing any more, also if it is looked at
// afterwards.
func TestWithdrawnCountsNothing(t *testing.T) {
	g := newRig(t)
	g.count(t, nil)
	g.apply(t, []string{grantName}, limited("one", upTo(1)))
	p := g.Authorize(t.Context(), refund)
	p.Withdraw(t.Context(), pdp.Decision{Reason: pdp.Forbidden})
	_ = p.Recheck()
	p = g.Authorize(t.Context(), refund)
	if !p.Forward(t.Context(), begun) {
		t.Errorf("%+v", p.Decision)
	}
	p.End(t.Context(), decisionv1.Outcome_OK)
}
