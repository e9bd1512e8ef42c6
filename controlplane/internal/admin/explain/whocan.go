package explain

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// maxAsked is how many agents are asked for one page. A page may be short, or
// empty, and not the last.
const maxAsked = 2000

// WhoCan answers which agents of a namespace may call a target, and what that
// hangs on where a grant says more than the target and the time.
func (e *Explainer) WhoCan(ctx context.Context, req *adminv1.WhoCanRequest) (*adminv1.WhoCanResponse, error) {
	call, err := callOf(req.GetTarget())
	if err != nil {
		return nil, err
	}
	size := ledger.PageSize(req.GetPageSize())
	agents := &adminv1.ListAgentsRequest{PageSize: int32(size), PageToken: req.GetPageToken()} //nolint:gosec // 1000 at the most
	view, err := e.newest(ctx)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.WhoCanResponse{Revision: view.Revision()}
	for asked := 0; ; {
		p, err := ledger.List[*grantv1.Agent](ctx, e.Ledger, req.GetParent(), agents)
		if err != nil {
			return nil, err
		}
		for _, agent := range p.Items {
			held, err := view.Held(agent.GetName())
			if err != nil {
				return nil, err
			}
			if held == nil {
				continue // it was removed since
			}
			h := holder(held, call, e.at(req.GetTime()))
			if h == nil {
				continue
			}
			h.Agent = agent.GetName()
			resp.Holders = append(resp.Holders, h)
			if len(resp.GetHolders()) == size && agent != p.Items[len(p.Items)-1] {
				resp.NextPageToken = ledger.Token(p.Revision, agent.GetName())
				return resp, nil
			}
		}
		asked += len(p.Items)
		if p.Next == "" || asked >= maxAsked || len(resp.GetHolders()) == size {
			resp.NextPageToken = p.Next
			return resp, nil
		}
		agents.PageToken = p.Next
	}
}

// holder says how an agent may make a call; nil if it may not, whatever the
// arguments and the session.
func holder(held *grant.Snapshot, call pdp.Call, now time.Time) *adminv1.WhoCanResponse_Holder {
	_, findings := pdp.Explain(held, call, pdp.At{Now: now})
	h := &adminv1.WhoCanResponse_Holder{}
	var provided, unless []string
	always := false
	for _, f := range findings {
		open := openCondition(f.Grant.Message())
		switch {
		case f.Reason == pdp.Expired || f.Reason == pdp.NotYetValid:
		case f.Grant.Forbids() && open:
			unless = append(unless, fmt.Sprintf("unless %s forbids it: %s", f.Grant.Name(), f.Grant.Message().GetCondition()))
		case f.Grant.Forbids() && f.Applies:
			return nil
		case f.Grant.Forbids() || f.Reason == pdp.ConditionFalse && !open:
		default:
			h.Grants = append(h.Grants, f.Grant.Name())
			words := provisos(f.Grant.Message(), open)
			always = always || len(words) == 0
			if len(words) > 0 {
				provided = append(provided, f.Grant.Name()+": "+strings.Join(words, "; "))
			}
		}
	}
	if len(h.GetGrants()) == 0 {
		return nil
	}
	if !always {
		h.Provided = provided
	}
	h.Provided = append(h.Provided, unless...)
	return h
}

// openCondition reports whether a condition reads what is known only of a call:
// without that, it holds or it does not.
func openCondition(g *grantv1.Grant) bool {
	for _, word := range []string{"args", "session", "user"} {
		if strings.Contains(g.GetCondition(), word) {
			return true
		}
	}
	return false
}

// provisos says what a grant asks for beside its target and the time.
func provisos(g *grantv1.Grant, open bool) []string {
	var words []string
	if s := g.GetSession(); s != nil {
		words = append(words, inSession(s))
	}
	if open {
		words = append(words, "if "+g.GetCondition())
	}
	return append(words, limitWords(g.GetLimits(), scopes[g.GetLimits().GetScope()])...)
}

// scopes say whose calls are counted together.
var scopes = map[grantv1.Limits_Scope]string{
	grantv1.Limits_SCOPE_UNSPECIFIED: " through one sidecar",
	grantv1.Limits_SIDECAR:           " through one sidecar",
	grantv1.Limits_AGENT:             " of the agent",
	grantv1.Limits_ALL:               " of all agents together",
}

// limitWords says how many calls may be made, and whose.
func limitWords(limits *grantv1.Limits, whose string) []string {
	var words []string
	if n := limits.GetMaxCalls(); n > 0 {
		words = append(words, fmt.Sprintf("at most %d calls%s", n, whose))
	}
	if r := limits.GetRate(); r != nil {
		words = append(words, fmt.Sprintf("at most %d calls in %s", r.GetCalls(), r.GetPer().AsDuration()))
	}
	return words
}

// inSession says which session a grant asks for.
func inSession(s *grantv1.SessionRequirement) string {
	said := "in a session"
	if len(s.GetPurposes()) > 0 {
		said += " for " + strings.Join(s.GetPurposes(), " or ")
	}
	switch {
	case len(s.GetUsers()) > 0:
		said += " on behalf of " + strings.Join(s.GetUsers(), " or ")
	case s.GetAnyUser():
		said += " on behalf of a user"
	case !s.GetSelfOpened():
		said += " that an administrator started"
	}
	return said
}
