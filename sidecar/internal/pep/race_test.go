package pep_test

import (
	"testing"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
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
