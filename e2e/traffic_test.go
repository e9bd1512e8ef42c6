package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/reeve-authz/reeve/e2e/stack"
	"github.com/reeve-authz/reeve/examples/support/agent"
	"github.com/reeve-authz/reeve/examples/support/desk"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// traffic is an agent's calls of one tool over several MCP sessions, each call
// with an argument of its own, so that the server's journal, the agent's
// replies and the records can be joined. A session that fails is opened anew.
type traffic struct {
	stack     *stack.Stack
	tool, arg string
	cancel    context.CancelFunc
	workers   sync.WaitGroup
	allowed   atomic.Int64 // calls that were answered by the server
	denied    atomic.Int64

	mu    sync.Mutex // guards calls
	calls []call
}

// call is one call as the agent saw it.
type call struct {
	arguments string
	report    agent.Report
	begin     time.Time
}

// drive starts traffic that calls a tool with one string argument, until stop.
func drive(t *testing.T, s *stack.Stack, workers int, tool, arg string) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	d := &traffic{stack: s, tool: tool, arg: arg, cancel: cancel}
	for worker := range workers {
		d.workers.Go(func() { d.work(ctx, worker) })
	}
	t.Cleanup(func() { d.stop() })
	return d
}

func (d *traffic) work(ctx context.Context, worker int) {
	var session *mcp.ClientSession
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
		case <-time.After(8 * time.Millisecond):
		}
		if session == nil {
			session = d.connect(ctx)
			continue
		}
		arguments := fmt.Sprintf(`{%q:"%d-%d"}`, d.arg, worker, n)
		callCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		begin := time.Now()
		r := agent.Do(callCtx, session, agent.Step{Method: "tools/call", Name: d.tool, Arguments: json.RawMessage(arguments)})
		cancel()
		if ctx.Err() != nil && r.Verdict == "failed" {
			r.Verdict = "given up" // by the agent, when the test had enough
		}
		d.count(call{arguments, r, begin})
		if r.Verdict == "failed" {
			_ = session.Close() // it is the session that failed
			session = nil
		}
	}
	if session != nil {
		_ = session.Close() // the test is over
	}
}

func (d *traffic) connect(ctx context.Context) *mcp.ClientSession {
	endpoint, secret, err := d.stack.Endpoint(stack.Server)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	session, err := agent.Connect(ctx, endpoint, secret, "2025-11-25")
	if err != nil {
		return nil
	}
	return session
}

func (d *traffic) count(c call) {
	switch c.report.Verdict {
	case "allow":
		d.allowed.Add(1)
	case "deny":
		d.denied.Add(1)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, c)
}

// flows waits until so many more calls were answered.
func (d *traffic) flows(t *testing.T, calls int64) {
	t.Helper()
	from := d.allowed.Load()
	eventually(t, "calls are answered", func() bool { return d.allowed.Load() >= from+calls })
}

// deniedFor reports whether a call was denied for a reason.
func (d *traffic) deniedFor(reason string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.calls, func(c call) bool { return c.report.Verdict == "deny" && c.report.Reason == reason })
}

// stop ends the traffic and returns all calls.
func (d *traffic) stop() []call {
	d.cancel()
	d.workers.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// join holds three accounts against each other: what reached the server by its
// own journal, what the records say, and what the agent was told.
//
// P3: whatever arrived was recorded as allowed, and before it arrived. What the
// agent was told is what was recorded; what it was told was denied did not
// arrive.
func join(t *testing.T, s *stack.Stack, calls []call) {
	t.Helper()
	arrivals, err := desk.ReadJournal(s.JournalPath)
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(map[string]desk.Arrival)
	for _, a := range arrivals {
		if _, twice := arrived[digest(string(a.Arguments))]; twice {
			t.Errorf("%s arrived twice", a.Arguments)
		}
		arrived[digest(string(a.Arguments))] = a
	}
	allowed, byID := awaitRecords(t, s, arrived, calls)

	for key, a := range arrived {
		d, ok := allowed[key]
		switch {
		case !ok:
			t.Errorf("P3: %s %s arrived without a record", a.Name, a.Arguments)
		case d.GetRecord().GetTime().AsTime().After(a.Time):
			t.Errorf("P3: %s %s arrived at %v, and its record is of %v", a.Name, a.Arguments, a.Time, d.GetRecord().GetTime().AsTime())
		case d.GetOutcome().GetStatus() == decisionv1.Outcome_WITHDRAWN:
			t.Errorf("P3: %s %s arrived, and its record says that it was withdrawn", a.Name, a.Arguments)
		}
	}
	told := map[string]int{}
	for _, c := range calls {
		told[c.report.Verdict+" "+c.report.Reason]++
		_, reached := arrived[digest(c.arguments)]
		if c.report.Verdict == "allow" && !reached {
			t.Errorf("the agent was answered %s, and the journal does not have it", c.arguments)
		}
		if c.report.Verdict != "deny" {
			continue
		}
		d := byID[c.report.Decision]
		cut := d.GetOutcome().GetStatus() == decisionv1.Outcome_CUT
		if reached && !cut {
			t.Errorf("the agent was denied %s (%s), and it arrived", c.arguments, c.report.Reason)
		}
		if d == nil {
			t.Errorf("the agent was denied %s by decision %q, of which there is no record", c.arguments, c.report.Decision)
		}
	}
	t.Logf("%d calls: %v; %d arrived, %d decisions on record", len(calls), told, len(arrived), len(byID))
}

// awaitRecords reads the log until it has an allowed decision for whatever
// arrived, and those by which calls were denied: records follow a moment after
// the calls.
func awaitRecords(t *testing.T, s *stack.Stack, arrived map[string]desk.Arrival, calls []call) (allowed, byID map[string]*adminv1.LoggedDecision) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		all, err := s.AllDecisions(t.Context())
		if err != nil && time.Now().After(deadline) {
			t.Fatal(err) // a log in several copies may be without its leader for a while
		}
		allowed, byID = make(map[string]*adminv1.LoggedDecision), make(map[string]*adminv1.LoggedDecision)
		for _, l := range all {
			d := l.GetRecord().GetDecision()
			byID[d.GetId()] = l
			if d.GetVerdict() == decisionv1.Decision_ALLOW {
				allowed[hex.EncodeToString(d.GetArgumentsDigest())] = l
			}
		}
		complete := err == nil
		for key := range arrived {
			complete = complete && allowed[key] != nil
		}
		for _, c := range calls {
			complete = complete && (c.report.Verdict != "deny" || byID[c.report.Decision] != nil)
		}
		if complete || time.Now().After(deadline) {
			return allowed, byID
		}
	}
}

// digest is what a record has of arguments that are one string: RFC 8785 has
// nothing to reorder in them, only blanks to leave out.
func digest(arguments string) string {
	var m map[string]string
	if err := json.Unmarshal([]byte(arguments), &m); err != nil {
		return "not one string: " + arguments
	}
	canonical, err := json.Marshal(m)
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:])
}
