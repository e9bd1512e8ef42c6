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
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// P3: the decision is on record when the call is forwarded.
func TestRecordedBeforeForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		p := g.Authorize(t.Context(), refund)
		if !p.Decision.Allow || p.ID != "i-1" {
			t.Fatalf("permit %q: %+v", p.ID, p.Decision)
		}
		sent := p.Forward(t.Context(), func(_ context.Context, server *grant.Server) bool {
			if server.URL() != "http://127.0.0.1:1" {
				t.Errorf("sent to %s", server.URL())
			}
			g.records.check(t, "refund granted")
			time.Sleep(3 * time.Second)
			return true
		})
		if !sent {
			t.Error("not sent")
		}
		p.End(t.Context(), decisionv1.Outcome_OK)
		p.End(t.Context(), decisionv1.Outcome_FAILED)
		g.records.check(t, "refund granted", "i-1 OK 3s")
	})
}

// P3: no record, no call.
func TestNoRecordNoCall(t *testing.T) {
	g := newRig(t)
	g.records.decide = func() error { return errors.New("disk full") }
	p := g.Authorize(t.Context(), refund)
	if p.Decision.Allow || p.Decision.Reason != pdp.Unavailable {
		t.Errorf("decision %+v", p.Decision)
	}
	if p.Forward(t.Context(), unsent(t)) {
		t.Error("forwarded")
	}
	p.End(t.Context(), decisionv1.Outcome_OK)
	g.records.check(t)
}

// P1 and P8: an enforcer that holds nothing, or has not heard for too long,
// denies.
func TestStaleDenies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		time.Sleep(24*time.Hour - time.Nanosecond)
		if d := g.Authorize(t.Context(), refund).Decision; d.Reason == pdp.Stale {
			t.Errorf("in the last moment: %+v", d)
		}
		time.Sleep(time.Nanosecond)
		for _, p := range []*pep.Permit{g.Authorize(t.Context(), refund), g.Admit("support", "")} {
			if p.Decision.Allow || p.Decision.Reason != pdp.Stale {
				t.Errorf("after the bound: %+v", p.Decision)
			}
		}
		if g.Visible("support", "")(pdp.Tool, "refund") {
			t.Error("visible after the bound")
		}
	})
}

func TestAdmit(t *testing.T) {
	g := newRig(t)
	if d := g.Admit("support", "").Decision; !d.Allow {
		t.Errorf("known server: %+v", d)
	}
	if d := g.Admit("billing", "").Decision; d.Allow || d.Reason != pdp.UnknownServer {
		t.Errorf("unknown server: %+v", d)
	}
	g.apply(t, nil, &grantv1.Agent{Name: "namespaces/default/agents/clerk", State: grantv1.Agent_SUSPENDED})
	if d := g.Admit("support", "").Decision; d.Allow || d.Reason != pdp.Suspended {
		t.Errorf("suspended: %+v", d)
	}
	g.apply(t, []string{"namespaces/default/agents/clerk"})
	if d := g.Admit("support", "").Decision; d.Allow || d.Reason != pdp.Suspended {
		t.Errorf("no agent: %+v", d)
	}
	g.records.check(t)
}

// P1: a call that was not filled in is denied. Only Admit admits.
func TestCallOfNoKind(t *testing.T) {
	g := newRig(t)
	if d := g.Authorize(t.Context(), pdp.Call{Server: "support"}).Decision; d.Allow || d.Reason != pdp.NotGranted {
		t.Errorf("decision %+v", d)
	}
	g.records.check(t, " not_granted")
}

// P2 and P6: what is revoked or has expired between the decision and forwarding
// is not forwarded.
func TestWithdrawn(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *rig){
		"revoked": func(t *testing.T, g *rig) { t.Helper(); g.apply(t, []string{grantName}) },
		"lapsed":  func(t *testing.T, g *rig) { t.Helper(); g.replica.Lapse() },
		"expired": func(*testing.T, *rig) { time.Sleep(time.Hour) },
		"server gone": func(t *testing.T, g *rig) {
			t.Helper()
			g.apply(t, []string{"namespaces/default/servers/support"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				p := g.Authorize(t.Context(), refund)
				lose(t, g)
				if p.Forward(t.Context(), unsent(t)) || p.Decision.Allow {
					t.Error("forwarded")
				}
				p.End(t.Context(), decisionv1.Outcome_OK)
				g.records.check(t, "refund granted", "i-1 WITHDRAWN 0s "+p.Decision.Reason.String())
			})
		})
	}
}
