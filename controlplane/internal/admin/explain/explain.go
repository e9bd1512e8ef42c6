// Package explain answers who may call what, by the code that sidecars decide
// with.
package explain

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

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

// ExplainCall answers what a sidecar that holds the
// newest state would decide, by the code that it would decide with.
func (e *Explainer) ExplainCall(ctx context.Context, req *adminv1.ExplainCallRequest) (*adminv1.ExplainCallResponse, error) {
	if _, err := noun.NameOf((*grantv1.Agent)(nil), req.GetAgent()); err != nil {
		return nil, err
	}
	call, err := callOf(req)
	if err != nil {
		return nil, err
	}
	head, err := e.Ledger.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	view, err := e.Ledger.Reach(ctx, head.Revision)
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
	now := e.Now()
	if req.GetTime() != nil {
		now = req.GetTime().AsTime()
	}
	decision, findings := pdp.Explain(held, call, pdp.At{Now: now})
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
	return resp, nil
}

// callOf turns a request into the call that it asks about.
func callOf(req *adminv1.ExplainCallRequest) (pdp.Call, error) {
	field, text := noun.TargetOf(req.GetTarget())
	server, name, ok := grant.SplitTarget(text)
	if !ok || strings.HasSuffix(name, "*") {
		return pdp.Call{}, refusal.Invalid("target.%s: %q is not one thing to call: write server/name", field, text)
	}
	call := pdp.Call{Kind: kinds[field], Server: server, Name: name}
	if len(req.GetArguments()) == 0 {
		return call, nil
	}
	args, err := strictjson.Parse(req.GetArguments(), argumentLimits)
	if err != nil {
		return pdp.Call{}, refusal.Invalid("arguments: %w", err)
	}
	if call.Args, ok = args.(*strictjson.Object); !ok {
		return pdp.Call{}, refusal.Invalid(`arguments: they are not a JSON object, such as {"amount": 5}`)
	}
	return call, nil
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
