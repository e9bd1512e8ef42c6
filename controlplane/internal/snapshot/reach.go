package snapshot

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// A reach is a part of the catalogue that a grant's target speaks of: a server
// itself (no tool), one of its tools, all of its tools ("*"), every server itself
// (server "*"), or every server with all of its tools ("*" both).
type reach struct{ server, tool string }

var (
	everyServer = reach{server: "*"}
	everything  = reach{server: "*", tool: "*"}
)

// reachOf returns what the targets of a grant reach, each once. One that forbids
// "*" reaches nothing: that everything is denied an agent is no reason to tell it
// what there is.
func reachOf(g *grantv1.Grant) []reach {
	var all []reach
	for _, t := range g.GetTargets() {
		var target string
		tool := false
		switch t := t.GetTarget().(type) {
		case *grantv1.Target_Tool:
			target, tool = t.Tool, true
		case *grantv1.Target_Resource:
			target = t.Resource
		case *grantv1.Target_Prompt:
			target = t.Prompt
		case *grantv1.Target_Method:
			target = t.Method
		default:
			// Of a kind that is not known here: it reaches nothing.
			continue
		}
		if target == "*" {
			switch {
			case g.GetEffect() == grantv1.Grant_FORBID:
			case tool:
				all = append(all, everyServer, everything)
			default:
				all = append(all, everyServer)
			}
			continue
		}
		server, name, ok := grant.SplitTarget(target)
		if !ok {
			continue
		}
		all = append(all, reach{server: server})
		if tool {
			all = append(all, reach{server: server, tool: name})
		}
	}
	slices.SortFunc(all, func(a, b reach) int {
		return cmp.Or(strings.Compare(a.server, b.server), strings.Compare(a.tool, b.tool))
	})
	return slices.Compact(all)
}

// firstLabel returns the least label that the grant's selector asks for: every
// agent it covers carries that one.
func firstLabel(g *grantv1.Grant) (label, bool) {
	labels := g.GetSubjects().GetSelector().GetMatchLabels()
	if len(labels) == 0 {
		return label{}, false
	}
	first := slices.Min(slices.Collect(maps.Keys(labels)))
	return label{first, labels[first]}, true
}

// link notes that g covers a.
func (b *builder) link(a *agent, g *granted) {
	a.grants[g] = struct{}{}
	g.covers[a] = struct{}{}
	b.mark(a, a.space.name(grant.Grants, g.id))
	for _, r := range g.reaches {
		a.reaches[r]++
		if a.reaches[r] == 1 {
			b.markReach(a, r)
		}
	}
}

// unlink notes that g no longer covers a.
func (b *builder) unlink(a *agent, g *granted) {
	delete(a.grants, g)
	delete(g.covers, a)
	b.mark(a, a.space.name(grant.Grants, g.id))
	for _, r := range g.reaches {
		a.reaches[r]--
		if a.reaches[r] == 0 {
			delete(a.reaches, r)
			b.markReach(a, r)
		}
	}
}

// mark has finish look at a name in the agent's set.
func (b *builder) mark(a *agent, n grant.Name) {
	b.marked[a] = append(b.marked[a], n)
}

// markReach marks for the agent all of the catalogue that r reaches.
func (b *builder) markReach(a *agent, r reach) {
	s := a.space
	tools := func(id string, v *server) {
		for tool := range v.tools {
			b.mark(a, s.tool(id, tool))
		}
	}
	switch {
	case r == everyServer:
		for id := range s.servers {
			b.mark(a, s.name(grant.Servers, id))
		}
	case r == everything:
		for id, v := range s.servers {
			tools(id, v)
		}
	case r.tool == "":
		b.mark(a, s.name(grant.Servers, r.server))
	case r.tool == "*":
		if v, ok := s.servers[r.server]; ok {
			tools(r.server, v)
		}
	default:
		b.mark(a, s.tool(r.server, r.tool))
	}
}

// waysTo are the reaches that a server or a tool is in.
func waysTo(n grant.Name) []reach {
	if n.Collection == grant.Servers {
		return []reach{{server: n.ID}, everyServer}
	}
	return []reach{{server: n.Server, tool: n.ID}, {server: n.Server, tool: "*"}, everything}
}

// markReached marks a server or a tool for every agent with a grant that reaches
// it.
func (b *builder) markReached(s *space, n grant.Name) {
	for _, r := range waysTo(n) {
		for g := range s.reaching[r] {
			for a := range g.covers {
				b.mark(a, n)
			}
		}
	}
}

// markFleet marks a stop button for every agent that it concerns.
func (b *builder) markFleet(n grant.Name) {
	for namespace, s := range b.spaces {
		if n.Namespace != "" && n.Namespace != namespace {
			continue
		}
		for _, a := range s.agents {
			b.mark(a, n)
		}
	}
}

func (s *space) name(c grant.Collection, id string) grant.Name {
	return grant.Name{Collection: c, Namespace: s.namespace, ID: id}
}

func (s *space) tool(server, id string) grant.Name {
	return grant.Name{Collection: grant.Tools, Namespace: s.namespace, Server: server, ID: id}
}

// server is a server of the catalogue, made if need be.
func (s *space) server(id string) *server {
	v, ok := s.servers[id]
	if !ok {
		v = &server{tools: make(map[string]*Entry)}
		s.servers[id] = v
	}
	return v
}

// forget drops a server that is not there and has no tools.
func (s *space) forget(id string) {
	if v := s.servers[id]; v.entry == nil && len(v.tools) == 0 {
		delete(s.servers, id)
	}
}

func add[K, T comparable](index map[K]set[T], key K, item T) {
	s, ok := index[key]
	if !ok {
		s = make(set[T])
		index[key] = s
	}
	s[item] = struct{}{}
}

func drop[K, T comparable](index map[K]set[T], key K, item T) {
	delete(index[key], item)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}
