package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	"github.com/reeve-authz/reeve/e2e/stack"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// Namespace is the cluster's, and Servers are its tool servers.
const Namespace = "namespaces/lab"

// Servers are the tool servers' ids.
var Servers = []string{"t0", "t1"}

// Direct are the tools that each agent is granted by a grant of its own.
var Direct = []string{"d0", "d1"}

const (
	// ByLabel is the tool that goes by the label crew=day.
	ByLabel = "l0"
	// Slow is granted to one agent only, and not always.
	Slow = "b0"
	// SlowAgent is that agent.
	SlowAgent = "a3"
	// SlowBound is the bound of that grant.
	SlowBound = 3 * time.Second
)

// Agents are the agents' ids.
var Agents = []string{"a0", "a1", "a2", "a3"}

// Wing returns the value of an agent's label wing.
func Wing(agent string) string {
	if agent == "a0" || agent == "a2" {
		return "east"
	}
	return "west"
}

// Targets returns everything that agents call.
func Targets() []string {
	var targets []string
	for _, s := range Servers {
		for _, t := range append([]string{ByLabel}, Direct...) {
			targets = append(targets, s+"/"+t)
		}
	}
	return append(targets, Servers[0]+"/"+Slow)
}

// Given returns the units that agents have when nothing is revoked, without
// the slow one.
func Given() []oracle.Unit {
	var units []oracle.Unit
	for _, agent := range Agents {
		for _, target := range Targets() {
			if target != Servers[0]+"/"+Slow {
				units = append(units, oracle.Unit{Agent: agent, Target: target})
			}
		}
	}
	return units
}

// AgentOf returns an agent as it is when nothing is revoked.
func AgentOf(id string) *grantv1.Agent {
	return &grantv1.Agent{
		Name:   Namespace + "/agents/" + id,
		Labels: map[string]string{"crew": "day", "wing": Wing(id)},
	}
}

// DirectGrant returns the grant of an agent for a tool of a server.
func DirectGrant(agent, server, tool string) *grantv1.Grant {
	return allow(fmt.Sprintf("%s-%s-%s", agent, server, tool), server+"/"+tool, &grantv1.Subjects{Agents: []string{agent}})
}

// SlowGrant returns the grant with the long bound.
func SlowGrant() *grantv1.Grant {
	g := DirectGrant(SlowAgent, Servers[0], Slow)
	g.FreshnessBound = durationpb.New(SlowBound)
	return g
}

func allow(id, target string, subjects *grantv1.Subjects) *grantv1.Grant {
	return &grantv1.Grant{
		Name: Namespace + "/grants/" + id, Effect: grantv1.Grant_ALLOW, Subjects: subjects,
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: target}}},
		ExpireTime: timestamppb.New(time.Now().Add(240 * time.Hour)),
	}
}

// resources are the catalogue, the agents and what they are granted.
func (c *Cluster) resources() []*adminv1.Resource {
	all := []*adminv1.Resource{{Kind: &adminv1.Resource_Namespace{Namespace: &grantv1.Namespace{Name: Namespace}}}}
	for _, agent := range Agents {
		all = append(all, &adminv1.Resource{Kind: &adminv1.Resource_Agent{Agent: AgentOf(agent)}})
	}
	for i, server := range Servers {
		name := Namespace + "/servers/" + server
		all = append(all, &adminv1.Resource{Kind: &adminv1.Resource_Server{Server: &grantv1.Server{
			Name: name, Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://" + c.tools[i] + "/mcp"}},
		}}})
		for _, tool := range slices.Concat([]string{ByLabel, Slow, Purposeful, OnBehalf}, Direct, Limited) {
			all = append(all, &adminv1.Resource{Kind: &adminv1.Resource_Tool{Tool: &grantv1.Tool{
				Name: name + "/tools/" + tool, Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED,
			}}})
		}
		byLabel := allow("label-"+server, server+"/"+ByLabel, &grantv1.Subjects{
			Selector: &grantv1.LabelSelector{MatchLabels: map[string]string{"crew": "day"}},
		})
		all = append(all, &adminv1.Resource{Kind: &adminv1.Resource_Grant{Grant: byLabel}})
		for _, agent := range Agents {
			for _, tool := range Direct {
				all = append(all, &adminv1.Resource{Kind: &adminv1.Resource_Grant{Grant: DirectGrant(agent, server, tool)}})
			}
		}
	}
	return append(all, sessional()...)
}

// fill puts everything into the store, in one change.
func (c *Cluster) fill(ctx context.Context) error {
	_, err := adminv1.NewApplyClient(c.conns[0]).ApplyResources(ctx, &adminv1.ApplyResourcesRequest{Resources: c.resources()})
	return err
}

func (c *Cluster) token(ctx context.Context, agent string) (stack.Token, error) {
	t, err := adminv1.NewAgentsClient(c.conns[0]).CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{Agent: Namespace + "/agents/" + agent})
	return stack.Token{Token: t.GetToken(), CADigest: t.GetCaDigest()}, err
}
