package grant

import (
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// Project returns the part of a stored grant that is streamed. It shares what
// it keeps with g, and names nobody whom the grant is for.
func Project(g *grantv1.Grant) *grantv1.Grant {
	return &grantv1.Grant{
		Name:       g.GetName(),
		Effect:     g.GetEffect(),
		Targets:    g.GetTargets(),
		Condition:  g.GetCondition(),
		NotBefore:  g.GetNotBefore(),
		ExpireTime: g.GetExpireTime(),
	}
}

// ProjectAgent returns the part of a stored agent that is streamed. It shares
// what it keeps with a.
func ProjectAgent(a *grantv1.Agent) *grantv1.Agent {
	return &grantv1.Agent{Name: a.GetName(), Labels: a.GetLabels(), State: a.GetState(), Uid: a.GetUid()}
}

// ProjectServer returns the part of a stored server that is streamed. It shares
// what it keeps with s.
func ProjectServer(s *grantv1.Server) *grantv1.Server {
	return &grantv1.Server{Name: s.GetName(), Upstream: s.GetUpstream()}
}

// ProjectTool returns the part of a stored tool that is streamed.
func ProjectTool(t *grantv1.Tool) *grantv1.Tool {
	return &grantv1.Tool{Name: t.GetName(), Effect: t.GetEffect(), Reach: t.GetReach()}
}
