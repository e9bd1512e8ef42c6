package agent_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/reeve-authz/reeve/examples/support/agent"
	"github.com/reeve-authz/reeve/examples/support/desk"
	"github.com/reeve-authz/reeve/examples/support/server"
)

// TestScenarioWithoutReeve is the control of everything that runs the scenario
// through a sidecar: the bare server does whatever it is asked, so each step
// that must be denied goes other than expected, and each that must be allowed
// works.
func TestScenarioWithoutReeve(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			endpoint := serve(t, dir, protocol == "2026-07-28")
			session, err := agent.Connect(t.Context(), endpoint, "", protocol)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			script, err := os.Open("../scenario.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			defer script.Close()
			var steps []agent.Step
			for d := json.NewDecoder(script); d.More(); {
				var s agent.Step
				if err := d.Decode(&s); err != nil {
					t.Fatal(err)
				}
				steps = append(steps, s)
			}

			calls := 0
			for _, step := range steps {
				r := agent.Do(t.Context(), session, step)
				if r.Verdict != "allow" {
					t.Errorf("%s: %s: %s", step.Step, r.Verdict, r.Message)
				}
				denied := step.Expect.Verdict == "deny"
				if narrowed := step.Expect.Names != nil; r.AsExpected == (denied || narrowed) {
					t.Errorf("%s: as expected is %t", step.Step, r.AsExpected)
				}
				if step.Expect.Names == nil {
					calls++
				}
			}
			arrivals, err := desk.ReadJournal(filepath.Join(dir, "journal"))
			if err != nil {
				t.Fatal(err)
			}
			if len(arrivals) != calls {
				t.Errorf("the journal has %d of %d calls", len(arrivals), calls)
			}
		})
	}
}

func TestRunReports(t *testing.T) {
	t.Parallel()
	session, err := agent.Connect(t.Context(), serve(t, t.TempDir(), false), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	script := bytes.NewBufferString(`
		{"step":"a", "method":"tools/call", "name":"get_ticket", "arguments":{"ticket":"T-1001"}, "expect":{"verdict":"allow"}}
		{"step":"b", "method":"tools/call", "name":"no_such_tool", "expect":{"verdict":"deny"}}`)
	var out bytes.Buffer
	asExpected, err := agent.Run(t.Context(), session, script, agent.JSON(&out))
	if err != nil || asExpected {
		t.Errorf("as expected %t, error %v; want false, none", asExpected, err)
	}
	var verdicts []string
	for d := json.NewDecoder(&out); d.More(); {
		var r agent.Report
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		verdicts = append(verdicts, r.Verdict)
	}
	if len(verdicts) != 2 || verdicts[0] != "allow" || verdicts[1] != "failed" {
		t.Errorf("verdicts %v, want allow and failed", verdicts)
	}
}

func serve(t *testing.T, dir string, stateless bool) (endpoint string) {
	t.Helper()
	d, err := desk.Open(filepath.Join(dir, "desk"), desk.Seed())
	if err != nil {
		t.Fatal(err)
	}
	j, err := desk.OpenJournal(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(server.Handler(server.New(d, j, slog.New(slog.DiscardHandler)), stateless, slog.New(slog.DiscardHandler)))
	t.Cleanup(func() {
		s.Close()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.URL
}
