package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
	"github.com/reeve-authz/reeve/examples/support/agent"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// demo is one walk. It remembers every call, to find it again in the log.
type demo struct {
	stack  *stack.Stack
	out    io.Writer
	failed error // of the first write to out that failed
	agent  *stack.ScriptedAgent
	calls  []agent.Report
}

// walk shows each thing in turn, and stops at the first that differs.
func (d *demo) walk(ctx context.Context) (err error) {
	d.printf("Starting a control plane on embedded etcd, an MCP server, and a sidecar for the\nagent %s.\n", stack.Agent)
	if err := d.stack.Start(ctx); err != nil {
		return err
	}
	d.agent, err = d.startAgent(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if closed := d.agent.Close(); err == nil {
			err = closed
		}
	}()
	for _, s := range []struct {
		title string
		show  func(context.Context) error
	}{
		{"The agent sees only the tools it was granted", d.showTools},
		{"An allowed call goes through", d.showAllowed},
		{"A call outside its condition is denied, with a reason", d.showCondition},
		{"A revocation denies the very next call", d.showRevocation},
		{"Every one of these decisions is on record", d.showDecisions},
	} {
		d.printf("\n%s\n", s.title)
		if err := s.show(ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(s.title[:1])+s.title[1:], err)
		}
	}
	return nil
}

func (d *demo) startAgent(ctx context.Context) (*stack.ScriptedAgent, error) {
	endpoint, secretFile := d.stack.AgentEndpoint()
	return d.stack.StartAgent(ctx, endpoint, secretFile)
}

func (d *demo) showTools(ctx context.Context) error {
	direct, err := d.stack.StartAgent(ctx, d.stack.ServerEndpoint(), "")
	if err != nil {
		return err
	}
	all, err := direct.Do(agent.Step{Step: "list", Method: "tools/list", Expect: agent.Expect{Verdict: "allow"}})
	if err != nil {
		return err
	}
	if err := direct.Close(); err != nil {
		return err
	}
	seen, err := d.agent.Do(list("await_reply", "close_ticket", "get_ticket", "issue_refund", "reply_to_ticket", "search_tickets"))
	if err != nil {
		return err
	}
	hidden := slices.DeleteFunc(slices.Clone(all.Names), func(name string) bool { return slices.Contains(seen.Names, name) })
	d.printf("  the server offers  %d tools\n  the agent sees     %s\n  and not            %s\n",
		len(all.Names), wrap(strings.Join(seen.Names, ", "), 21), strings.Join(hidden, ", "))
	if want := []string{"delete_customer", "export_customers"}; !slices.Equal(hidden, want) {
		return fmt.Errorf("hidden are %v, want %v", hidden, want)
	}
	return expected(seen)
}

func (d *demo) showAllowed(context.Context) error {
	r, err := d.refund("T-1001", 4900, agent.Expect{Verdict: "allow"})
	if err != nil {
		return err
	}
	var result struct {
		StructuredContent struct {
			RefundedCents int64 `json:"refunded_cents"`
		} `json:"structuredContent"`
	}
	if err := json.Unmarshal(r.Result, &result); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	refunded := result.StructuredContent.RefundedCents
	d.printf("    the server answered that it has refunded %d cents\n", refunded)
	if refunded != 4900 {
		return fmt.Errorf("it refunded %d cents, want 4900", refunded)
	}
	return expected(r)
}

func (d *demo) showCondition(context.Context) error {
	r, err := d.refund("T-1002", 11900, agent.Expect{Verdict: "deny", Reason: "condition_false"})
	if err != nil {
		return err
	}
	return expected(r)
}

func (d *demo) showRevocation(ctx context.Context) error {
	before, err := d.refund("T-1003", 100, agent.Expect{Verdict: "allow"})
	if err != nil {
		return err
	}
	if err := expected(before); err != nil {
		return err
	}
	began := time.Now()
	if _, err := d.stack.Reevectl(ctx, "revoke", "small-refunds", "-n", stack.Namespace, "--wait"); err != nil {
		return err
	}
	d.printf("  $ reevectl revoke small-refunds -n %s --wait\n    in force after %d ms\n", stack.Namespace, time.Since(began).Milliseconds())
	after, err := d.refund("T-1003", 100, agent.Expect{Verdict: "deny", Reason: "not_granted"})
	if err != nil {
		return err
	}
	if err := expected(after); err != nil {
		return err
	}
	seen, err := d.agent.Do(list("await_reply", "close_ticket", "get_ticket", "reply_to_ticket", "search_tickets"))
	if err != nil {
		return err
	}
	d.printf("  the agent now sees %s\n", wrap(strings.Join(seen.Names, ", "), 21))
	return expected(seen)
}

// showDecisions asks until the log has as many decisions as there were calls:
// records go up a moment after the call. Then each must be the one that was
// answered.
func (d *demo) showDecisions(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var logged []*adminv1.LoggedDecision
	for len(logged) < len(d.calls) {
		var err error
		if logged, err = d.stack.Decisions(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d decisions: %w", len(logged), len(d.calls), context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	slices.Reverse(logged)
	d.printf("  $ reevectl decisions -n %s\n", stack.Namespace)
	for _, l := range logged {
		decision := l.GetRecord().GetDecision()
		d.printf("    %-5s %-15s %s/%s  %s\n", strings.ToLower(decision.GetVerdict().String()), decision.GetReason(),
			decision.GetServer(), decision.GetTarget(), decision.GetGrant())
	}
	if len(logged) != len(d.calls) {
		return fmt.Errorf("there are %d decisions of %d calls", len(logged), len(d.calls))
	}
	for i, call := range d.calls {
		if err := same(call, logged[i]); err != nil {
			return fmt.Errorf("decision %d: %w", i+1, err)
		}
	}
	return nil
}

// same compares what the agent was told with what was recorded.
func same(call agent.Report, logged *adminv1.LoggedDecision) error {
	decision := logged.GetRecord().GetDecision()
	verdict := decisionv1.Decision_DENY
	if call.Verdict == "allow" {
		verdict = decisionv1.Decision_ALLOW
	}
	switch {
	case decision.GetTarget() != call.Name || decision.GetVerdict() != verdict:
		return fmt.Errorf("recorded is %s of %s, the agent was told %s of %s", decision.GetVerdict(), decision.GetTarget(), call.Verdict, call.Name)
	case call.Verdict == "deny" && (decision.GetReason() != call.Reason || decision.GetId() != call.Decision):
		return fmt.Errorf("recorded is %s (%s), the agent was told %s (%s)", decision.GetReason(), decision.GetId(), call.Reason, call.Decision)
	}
	return nil
}

// refund has the agent ask for a refund, prints what came of it and remembers
// it.
func (d *demo) refund(ticket string, cents int64, expect agent.Expect) (agent.Report, error) {
	arguments := fmt.Sprintf(`{"ticket":%q,"amount_cents":%d}`, ticket, cents)
	r, err := d.agent.Do(agent.Step{
		Step: "refund", Method: "tools/call", Name: "issue_refund", Arguments: json.RawMessage(arguments), Expect: expect,
	})
	if err != nil {
		return r, err
	}
	d.calls = append(d.calls, r)
	d.printf("  issue_refund %s\n    %s\n", arguments, strings.TrimSpace(r.Verdict+" "+r.Reason))
	if r.Message != "" {
		d.printf("    the agent was told:\n      %s\n", wrap(r.Message, 6))
	}
	return r, nil
}

func list(names ...string) agent.Step {
	return agent.Step{Step: "list", Method: "tools/list", Expect: agent.Expect{Verdict: "allow", Names: names}}
}

func expected(r agent.Report) error {
	if r.AsExpected {
		return nil
	}
	return fmt.Errorf("%s %s: got %s %s %v %s", r.Method, r.Name, r.Verdict, r.Reason, r.Names, r.Message)
}

// wrap breaks a text into lines that fit 80 columns behind an indent.
func wrap(text string, indent int) string {
	var b strings.Builder
	width := indent
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case width+1+len(word) > 80:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			width = indent
		default:
			b.WriteString(" ")
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	return b.String()
}

func (d *demo) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(d.out, format, args...); err != nil && d.failed == nil {
		d.failed = err
	}
}
