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
