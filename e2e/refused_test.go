package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// TestRefused has a sidecar refuse a grant that it is sent. People see who refused
// what, and why; and P2: whoever does not hold everything gets no freshness, until
// what it refuses is gone.
func TestRefused(t *testing.T) {
	faulty := os.Getenv("REEVE_FAULT_BIN")
	if faulty == "" {
		t.Skip("needs binaries with faults: make e2e")
	}
	s := start(t, stack.Config{
		FreshnessBound: 3 * time.Second, SidecarBin: faulty,
		SidecarEnvironment: []string{"REEVE_FAULT_REFUSE=namespaces/" + stack.Namespace + "/grants/probe"},
	})
	d := drive(t, s, 2, "search_tickets", "text")
	d.flows(t, 20)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if _, err := s.ReevectlIn(ctx, strings.NewReader(probe), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	list := func() string {
		out, err := s.Reevectl(ctx, "sidecars", "-n", stack.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	eventually(t, "reevectl sidecars tells of the refusal", func() bool {
		return strings.Contains(list(), "refused by a test")
	})
	eventually(t, "calls are denied", func() bool { return d.denied.Load() > 0 })
	// What was decided before it refused may be answered yet.
	denied := d.denied.Load()
	eventually(t, "calls are denied", func() bool { return d.denied.Load() >= denied+20 })
	denied, allowed := d.denied.Load(), d.allowed.Load()
	eventually(t, "calls are denied for longer than any renewal takes", func() bool { return d.denied.Load() >= denied+400 })
	if more := d.allowed.Load() - allowed; more > 0 {
		t.Errorf("P2: %d calls were allowed by a sidecar that refuses a grant", more)
	}
	reevectl(t, s, "revoke", "probe", "-n", stack.Namespace, "--wait")
	d.flows(t, 20)
	if out := list(); strings.Contains(out, "refused by a test") {
		t.Errorf("the refusal is still told of:\n%s", out)
	}
	for _, c := range d.stop() {
		if c.report.Verdict == "deny" && c.report.Reason != "stale" {
			t.Errorf("a call was denied %s, want stale", c.report.Reason)
		}
	}
}
