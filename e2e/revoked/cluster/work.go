package cluster

import (
	"fmt"
	"strings"

	"github.com/reeve-authz/reeve/e2e/revoked/caller"
	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

const (
	// Purposeful is the first server's tool that goes by a session for [Purpose].
	Purposeful = "n0"
	// OnBehalf is the first server's tool that goes by a session on behalf of a user.
	OnBehalf = "n1"
	// Purpose is for what sessions are.
	Purpose = "triage"
)

// Limited are the tools, of the first server, that only limited grants are for.
var Limited = []string{"q0", "q1", "q2"}

// Work returns what agents call in a session. The last needs none.
func Work() []string {
	return []string{Servers[0] + "/" + Purposeful, Servers[0] + "/" + OnBehalf, Servers[1] + "/" + Direct[0]}
}

// Units returns the units that agents may have when nothing is revoked: those of
// [Given], and what they have in sessions and by limited grants.
func Units() []oracle.Unit {
	units := Given()
	for _, agent := range Agents {
		for _, tool := range append([]string{Purposeful, OnBehalf}, Limited...) {
			units = append(units, oracle.Unit{Agent: agent, Target: Servers[0] + "/" + tool})
		}
	}
	return units
}

// LimitedGrant returns a grant for a limited tool, to all agents.
func LimitedGrant(id, tool string, limits *grantv1.Limits) *grantv1.Grant {
	g := allow(id, Servers[0]+"/"+tool, &grantv1.Subjects{Agents: Agents})
	g.Limits = limits
	return g
}

// sessional are the grants that ask for a session.
func sessional() []*adminv1.Resource {
	purposeful := allow("purposeful", Servers[0]+"/"+Purposeful, &grantv1.Subjects{Agents: Agents})
	purposeful.Session = &grantv1.SessionRequirement{Purposes: []string{Purpose}, SelfOpened: true}
	onBehalf := allow("on-behalf", Servers[0]+"/"+OnBehalf, &grantv1.Subjects{Agents: Agents})
	onBehalf.Session = &grantv1.SessionRequirement{AnyUser: true}
	return []*adminv1.Resource{
		{Kind: &adminv1.Resource_Grant{Grant: purposeful}}, {Kind: &adminv1.Resource_Grant{Grant: onBehalf}},
	}
}

// SessionName returns the resource name of an agent's session; empty if it has no
// id.
func SessionName(agent, id string) string {
	if id == "" {
		return ""
	}
	return fmt.Sprintf("%s/agents/%s/sessions/%s", Namespace, agent, id)
}

// Assign has agents do a task besides what they always do, through every sidecar
// of the agent; "" is for all agents.
func (c *Cluster) Assign(agent string, tasks ...caller.Task) {
	for _, s := range c.Sidecars {
		if agent == "" || s.Agent == agent {
			s.Caller.Assign(tasks...)
		}
	}
}

// Dismiss ends all tasks.
func (c *Cluster) Dismiss() {
	for _, s := range c.Sidecars {
		s.Caller.Dismiss()
	}
}

// sidecarOf returns through which sidecar an agent made the call of a task.
func (c *Cluster) sidecarOf(digest string) int {
	for i, s := range c.Sidecars {
		if s.Caller.Made(digest) {
			return i
		}
	}
	return oracle.Nobody
}

// callOf reads the id of a call, {cluster}-{sidecar}-{number}, and of a task
// {cluster}-{sidecar}-{number}@{session}.
func callOf(id string) (agent, session string) {
	id, task, _ := strings.Cut(id, "@")
	parts := strings.Split(id, "-")
	if len(parts) != 3 {
		return "nobody", ""
	}
	for i, agent := range crew {
		if parts[1] == fmt.Sprint(i) {
			return agent, SessionName(agent, task)
		}
	}
	return "nobody", ""
}
