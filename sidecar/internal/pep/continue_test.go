package pep_test

import (
	"testing"
	"testing/synctest"
)

// What goes on of a call that was counted is decided and recorded as that call
// again, and not counted again.
func TestContinue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.count(t, nil)
		g.apply(t, []string{grantName}, limited("a", upTo(2)))
		g.Continue(t.Context(), refund)
		g.Authorize(t.Context(), refund)
		g.Continue(t.Context(), refund)
		g.Authorize(t.Context(), refund)
		g.Continue(t.Context(), refund)
		g.Authorize(t.Context(), refund)
		g.apply(t, []string{"namespaces/default/grants/a"})
		g.Continue(t.Context(), refund)
		g.records.check(t, "refund granted", "refund granted", "refund granted", "refund granted",
			"refund granted", "refund limit_reached", "refund not_granted")
	})
}

// P1: a call that is made again rests on what has counted it, or is counted where
// it has not been: a limit of another grant is no less of one.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.count(t, nil)
		g.apply(t, []string{grantName}, limited("a", upTo(1)))
		counted := g.Authorize(t.Context(), refund).Counted()
		again := g.Retry(t.Context(), refund, counted)
		g.Retry(t.Context(), refund, again.Counted())
		g.apply(t, []string{"namespaces/default/grants/a"}, limited("b", upTo(1)))
		again = g.Retry(t.Context(), refund, counted) // is counted by b
		g.Retry(t.Context(), refund, counted)         // would be again
		g.Retry(t.Context(), refund, again.Counted())
		g.records.check(t, "refund granted", "refund granted", "refund granted",
			"refund granted", "refund limit_reached", "refund granted")
	})
}
