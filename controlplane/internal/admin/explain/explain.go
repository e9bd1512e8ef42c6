// Package explain answers who may call what, by the code that sidecars decide
// with.
package explain

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// Explainer answers for the newest state. All fields are needed. Safe for
// concurrent use.
type Explainer struct {
	// Ledger tells which state is the newest.
	Ledger *ledger.Ledger
	// Now is the wall clock.
	Now func() time.Time
}

// argumentLimits are those that a sidecar's front door has.
var argumentLimits = strictjson.Limits{Depth: 64}

// kinds are the kinds of calls by the field of a target.
var kinds = map[string]pdp.Kind{
	"tool": pdp.Tool, "resource": pdp.Resource, "prompt": pdp.Prompt, "method": pdp.Method,
}

// ExplainCall answers what a sidecar that holds the newest state would decide,
// by the code that it would decide with. The session that is named is taken to be
// claimed by that sidecar.
func (e *Explainer) ExplainCall(ctx context.Context, req *adminv1.ExplainCallRequest) (*adminv1.ExplainCallResponse, error) {
	agent, err := noun.NameOf((*grantv1.Agent)(nil), req.GetAgent())
	if err != nil {
		return nil, err
	}
	call, err := callOf(req.GetTarget())
	if err == nil {
		call.Args, err = argumentsOf(req.GetArguments())
	}
	if err == nil {
		call.Session, err = sessionOf(agent, req.GetSession())
	}
	if err != nil {
		return nil, err
	}
	view, err := e.newest(ctx)
	if err != nil {
		return nil, err
	}
	held, err := view.Held(req.GetAgent())
	if err != nil {
		return nil, err
	}
	if held == nil {
		return nil, refusal.Invalid("agent: there is no %q: see the list of agents", req.GetAgent())
	}
	if held, err = claimed(held, call.Session); err != nil {
		return nil, err
	}
	decision, findings := pdp.Explain(held, call, pdp.At{Now: e.at(req.GetTime())})
	resp := &adminv1.ExplainCallResponse{
		Verdict:  decisionv1.Decision_DENY,
		Reason:   decision.Reason.String(),
		Grant:    decision.Grant,
		Revision: decision.Revision,
	}
	if decision.Allow {
		resp.Verdict = decisionv1.Decision_ALLOW
	}
	for _, f := range findings {
		resp.Findings = append(resp.Findings, finding(f))
	}
	resp.Notes = notes(held, call, decision)
	return resp, nil
}

// notes says what is wrong with the arguments, or what limits an allowed call
// counts against.
func notes(held *grant.Snapshot, call pdp.Call, d pdp.Decision) []string {
	if d.Reason == pdp.ArgumentsInvalid {
		tool := held.Tool(call.Server, call.Name)
		if tool == nil || !tool.Pinned() {
			return nil
		}
		if err := tool.Arguments().Check(call.Args); err != nil && call.Args == nil {
			return []string{"no arguments were given, and the tool asks for some: " + err.Error()}
		} else if err != nil {
			return []string{err.Error()}
		}
		return nil
	}
	var all []string
	left := func(of string, words []string) {
		if len(words) > 0 {
			all = append(all, of+": "+strings.Join(words, ", ")+"; how many are left, the sidecar knows")
		}
	}
	if entry, _ := held.Lookup(d.Grant); d.Allow && entry != nil {
		if g, ok := entry.(*grant.Grant); ok {
			left(d.Grant, limitWords(g.Message().GetLimits(), scopes[g.Message().GetLimits().GetScope()]))
		}
	}
	if s := held.Session(call.Session); d.Allow && s != nil {
		left(s.Name(), limitWords(s.Message().GetLimits(), ""))
	}
	return all
}

// newest returns a view of the newest state.
func (e *Explainer) newest(ctx context.Context) (ledger.View, error) {
	head, err := e.Ledger.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	return e.Ledger.Reach(ctx, head.Revision)
}

// at is the instant that is asked about; unset is now.
func (e *Explainer) at(asked *timestamppb.Timestamp) time.Time {
	if asked == nil {
		return e.Now()
	}
	return asked.AsTime()
}

// callOf turns a target into a call of it.
func callOf(target *grantv1.Target) (pdp.Call, error) {
	field, text := noun.TargetOf(target)
	server, name, ok := grant.SplitTarget(text)
	if !ok || strings.HasSuffix(name, "*") {
		return pdp.Call{}, refusal.Invalid("target.%s: %q is not one thing to call: write server/name", field, text)
	}
	return pdp.Call{Kind: kinds[field], Server: server, Name: name}, nil
}

// argumentsOf reads arguments as a sidecar does; nil if there are none.
func argumentsOf(text []byte) (*strictjson.Object, error) {
	if len(text) == 0 {
		return nil, nil //nolint:nilnil // no arguments are no error
	}
	args, err := strictjson.Parse(text, argumentLimits)
	if err != nil {
		return nil, refusal.Invalid("arguments: %w", err)
	}
	object, ok := args.(*strictjson.Object)
	if !ok {
		return nil, refusal.Invalid(`arguments: they are not a JSON object, such as {"amount": 5}`)
	}
	return object, nil
}

// sessionOf returns the id of a session of the agent; empty for none.
func sessionOf(agent grant.Name, session string) (string, error) {
	if session == "" {
		return "", nil
	}
	n, err := grant.ParseName(session)
	if err != nil || n.Collection != grant.Sessions || n.Namespace != agent.Namespace || n.Agent != agent.ID {
		return "", refusal.Invalid("session: %q is no session of %s: write %s", session, agent,
			grant.SessionName(agent.Namespace, agent.ID, "{session}"))
	}
	return n.ID, nil
}

// us is who has claimed the session that is asked about.
var us = "sha256:" + strings.Repeat("0", 64)

// claimed returns what a sidecar holds that has claimed the session.
func claimed(held *grant.Snapshot, id string) (*grant.Snapshot, error) {
	s := held.Session(id)
	if s == nil {
		return held, nil
	}
	m := proto.CloneOf(s.Message())
	m.Claimant = us
	mine, err := grant.ParseSession(m, s.Revision())
	if err != nil {
		return nil, err
	}
	return held.As(us).Apply(held.Revision(), []grant.Entry{mine}, nil), nil
}

func finding(f pdp.Finding) *adminv1.ExplainCallResponse_Finding {
	said := &adminv1.ExplainCallResponse_Finding{
		Grant:   f.Grant.Name(),
		Effect:  grantv1.Grant_ALLOW,
		Applies: f.Applies,
		Detail:  f.Detail,
	}
	if bound := f.Grant.FreshnessBound(); bound > 0 {
		said.FreshnessBound = durationpb.New(bound)
	}
	if f.Grant.Forbids() {
		said.Effect = grantv1.Grant_FORBID
	}
	if said.GetDetail() == "" && !f.Applies {
		said.Detail = f.Reason.String()
	}
	return said
}
