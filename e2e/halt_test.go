package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
	"github.com/reeve-authz/reeve/examples/support/agent"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// TestHalt is P2 for the stop button: what is open is cut and told why, and
// nothing is allowed until somebody lifts it, kills of either side included.
func TestHalt(t *testing.T) {
	s := start(t, stack.Config{})
	report := openCall(t, s)
	d := drive(t, s, 2, "get_ticket", "ticket")
	d.flows(t, 20)
	reevectl(t, s, "fleet", "halt", "-n", stack.Namespace, "--reason", "a drill", "--wait")
	halted := interval{begin: time.Now()}
	select {
	case r := <-report:
		if r.Verdict != "deny" || r.Reason != "halted" {
			t.Errorf("the open call ended %s %s %q, want deny halted", r.Verdict, r.Reason, r.Message)
		}
	case <-time.After(patience):
		t.Fatal("P2: the call is still open after the wait returned")
	}
	for _, p := range []*stack.Process{s.ControlPlane, s.Sidecar} {
		p.Kill()
		restart(t, p)
	}
	eventually(t, "a new session is denied because of the halt", func() bool {
		endpoint, secret, err := s.Endpoint(stack.Server)
		if err != nil {
			return false
		}
		session, err := agent.Connect(t.Context(), endpoint, secret, "2025-11-25")
		if err == nil {
			_ = session.Close()
			t.Error("P2: halted, and a session begins")
		}
		return err == nil || strings.Contains(err.Error(), "halted")
	})
	halted.end = time.Now()
	reevectl(t, s, "fleet", "resume", "-n", stack.Namespace, "--wait")
	d.flows(t, 20)
	d.stop()
	checkRevoked(t, s, halted)

	cut := func(l *adminv1.LoggedDecision) bool {
		return l.GetOutcome().GetStatus() == decisionv1.Outcome_CUT && l.GetOutcome().GetReason() == "halted"
	}
	eventually(t, "a record says that its call was cut by the halt", func() bool {
		all, err := s.AllDecisions(t.Context())
		return err == nil && slices.ContainsFunc(all, cut)
	})
}
