//go:build reeve_fault

package pep_test

import (
	"context"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/fault"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

// The control of TestWithdrawn and TestLostWhileSending, to be run with
// REEVE_FAULT_OFF=recheck: with no look before it, what was decided is forwarded.
func TestForwardedWithoutALook(t *testing.T) {
	if !fault.Off(fault.Recheck) {
		t.Skip("the look is not off")
	}
	g := newRig(t)
	g.replica.OnCut(func(*replica.View) {}) // it has not come so far
	p := g.Authorize(t.Context(), refund)
	g.apply(t, []string{grantName})
	sent := p.Forward(t.Context(), func(context.Context, *grant.Server) bool {
		if err := p.Recheck(); err != nil {
			t.Error(err)
		}
		return true
	})
	if !sent {
		t.Error("not sent")
	}
}
