package claims

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// maxBlocks is how many blocks are remembered for requests that are repeated. One
// that is repeated after as many others draws another block: then calls are lost,
// and none is allowed twice.
const maxBlocks = 16

// draw takes a block of a grant's calls for the caller's agent. What does not
// cover the agent is, to it, not there.
func (s *Server) draw(ctx context.Context, c caller, r *grantv1.DrawCallsRequest) (*grantv1.DrawCallsResponse, error) {
	n, err := grant.ParseName(r.GetGrant())
	if err != nil || n.Collection != grant.Grants || n.Namespace != c.agent.Namespace {
		return nil, errNoGrant
	}
	block := blockID(c, r.GetRequestId())
	own := store.Count{GrantUID: r.GetUid(), AgentUID: c.uid}
	resp := &grantv1.DrawCallsResponse{}
	err = s.store.Draw(ctx, r.GetGrant(), c.name, own, func(d store.Draw) (*storev1.Drawn, error) {
		resp.Reset()
		limits, err := c.limitsOf(d, r.GetUid())
		if err != nil {
			return nil, err
		}
		from := d.Own
		from.Grant, from.Agent = r.GetGrant(), c.name
		if limits.GetScope() == grantv1.Limits_ALL {
			from = d.All
			from.Grant = r.GetGrant()
		}
		left := max(limits.GetMaxCalls()-from.GetCalls(), 0)
		resp.Left = left
		for _, b := range from.GetBlocks() {
			if b.GetRequestId() == block {
				resp.Calls = b.GetCalls()
				return nil, nil //nolint:nilnil // nothing is to be stored
			}
		}
		resp.Calls = min(r.GetCalls(), left)
		if resp.GetCalls() == 0 {
			return nil, nil //nolint:nilnil // nothing is to be stored
		}
		resp.Left -= resp.GetCalls()
		from.Calls += resp.GetCalls()
		from.Blocks = append(from.GetBlocks(), &storev1.Drawn_Block{RequestId: block, Calls: resp.GetCalls()})
		from.Blocks = from.Blocks[max(len(from.GetBlocks())-maxBlocks, 0):]
		return from, nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// limitsOf returns what may be drawn from, if the caller's agent may.
func (c caller) limitsOf(d store.Draw, uid string) (*grantv1.Limits, error) {
	agent, err := c.mayAct(d.Agent.Message)
	if err != nil {
		return nil, err
	}
	g, ok := d.Grant.Message.(*grantv1.Grant)
	if !ok || g.GetUid() != uid || !grant.Covers(g.GetSubjects(), c.agent.ID, agent.GetLabels()) {
		return nil, errNoGrant
	}
	l := g.GetLimits()
	shared := l.GetScope() == grantv1.Limits_AGENT || l.GetScope() == grantv1.Limits_ALL
	if !shared || l.GetMaxCalls() == 0 {
		return nil, fmt.Errorf("%w: %s", errNotShared, g.GetName())
	}
	return l, nil
}

// blockID is the id of a request among those of all sidecars that draw from the
// same count: nobody gets another's block by repeating its id.
func blockID(c caller, request string) string {
	sum := sha256.Sum256([]byte(c.uid + "\x00" + c.claimant + "\x00" + request))
	return hex.EncodeToString(sum[:16])
}
