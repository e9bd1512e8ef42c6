package pep_test

import (
	"context"
	"testing"
	"time"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// A call that rests on what came after the view that is looked at goes on.
func TestRecheckByAnOlderView(t *testing.T) {
	g := newRig(t)
	g.apply(t, []string{grantName})
	old := g.replica.View()
	g.apply(t, nil, may("refund", time.Hour))
	p := g.Authorize(t.Context(), refund)
	if !p.Forward(t.Context(), func(context.Context, *grant.Server) bool { return true }) {
		t.Fatal("not forwarded")
	}
	g.Recheck(old)
	if d, taken := p.Taken(); taken {
		t.Errorf("cut: %v", d.Reason)
	}
	p.End(t.Context(), decisionv1.Outcome_OK)
}
