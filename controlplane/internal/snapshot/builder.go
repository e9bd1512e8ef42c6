package snapshot

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// A builder keeps the sets of all agents up to date, at a cost that grows with
// what a change affects. It is used by one goroutine.
//
// Every change goes the same way: put or remove alters the index and marks, for
// each agent concerned, the names that may enter, leave or change; finish looks
// at the marked names only.
type builder struct {
	spaces map[string]*space
	// halts are the stop buttons that were pressed, by namespace; that of
	// everything is under the empty one.
	halts  map[string]*Entry
	marked map[*agent][]grant.Name // with repetitions
	gone   map[string]struct{}     // agents that were removed, by resource name
}

// A space is the index of one namespace.
type space struct {
	namespace string

	agents  map[string]*agent
	grants  map[string]*granted
	servers map[string]*server
	// sessions are by the agent's id and their own, whether or not the agent is
	// there.
	sessions map[string]map[string]session
	// naming are the grants whose subjects name an agent id, there or not.
	naming map[string]set[*granted]
	// selecting are the grants with a selector, by the first label it asks for.
	selecting map[label]set[*granted]
	// labelled are the agents that carry a label.
	labelled map[label]set[*agent]
	// reaching are the grants by what their targets reach.
	reaching map[reach]set[*granted]
}

type (
	set[T comparable] map[T]struct{}
	label             struct{ key, value string }
)

// An agent with the grants that cover it.
type agent struct {
	id     string
	space  *space
	stored *grantv1.Agent
	entry  *Entry
	grants set[*granted]
	// reaches counts the grants in grants that reach a part of the catalogue.
	reaches map[reach]int
	view    *View
}

// A granted is a grant with the agents that it covers.
type granted struct {
	id      string
	stored  *grantv1.Grant
	entry   *Entry
	reaches []reach
	covers  set[*agent]
}

// A server of the catalogue, there or only spoken of by its tools.
type server struct {
	entry *Entry
	tools map[string]*Entry
}

func newBuilder() *builder {
	return &builder{
		spaces: make(map[string]*space),
		halts:  make(map[string]*Entry),
		marked: make(map[*agent][]grant.Name),
		gone:   make(map[string]struct{}),
	}
}

func (b *builder) space(namespace string) *space {
	s, ok := b.spaces[namespace]
	if !ok {
		s = &space{
			namespace: namespace,
			agents:    make(map[string]*agent), grants: make(map[string]*granted), servers: make(map[string]*server),
			naming: make(map[string]set[*granted]), selecting: make(map[label]set[*granted]),
			labelled: make(map[label]set[*agent]), reaching: make(map[reach]set[*granted]),
			sessions: make(map[string]map[string]session),
		}
		b.spaces[namespace] = s
	}
	return s
}

// put takes in a resource of a namespace.
func (b *builder) put(n grant.Name, r store.Resource) error {
	entry, err := newEntry(r.Name, r.Revision, r.Message)
	if err != nil {
		return err
	}
	if n.Collection == grant.Fleets {
		b.halts[n.Namespace] = entry
		b.markFleet(n)
		return nil
	}
	s := b.space(n.Namespace)
	switch m := r.Message.(type) {
	case *grantv1.Agent:
		b.putAgent(s, n, m, entry)
	case *grantv1.Grant:
		if !b.replaceGrant(s, n, m, entry) {
			b.removeGrant(s, n)
			b.putGrant(s, n, m, entry)
		}
	case *grantv1.Server:
		s.server(n.ID).entry = entry
		b.markReached(s, n)
	case *grantv1.Tool:
		s.server(n.Server).tools[n.ID] = entry
		b.markReached(s, n)
	case *grantv1.Session:
		b.putSession(s, n, session{uid: m.GetAgentUid(), entry: entry})
	default:
		return fmt.Errorf("index %s: %T has no place", r.Name, m)
	}
	return nil
}

// remove takes out a resource of a namespace; one that is not there is nothing.
// A namespace goes with the last thing in it: it is nothing by itself.
func (b *builder) remove(n grant.Name) {
	if n.Collection == grant.Fleets {
		delete(b.halts, n.Namespace)
		b.markFleet(n)
		return
	}
	s, ok := b.spaces[n.Namespace]
	if !ok {
		return
	}
	switch n.Collection {
	case grant.Agents:
		b.removeAgent(s, n)
	case grant.Grants:
		b.removeGrant(s, n)
	case grant.Servers:
		s.server(n.ID).entry = nil
		s.forget(n.ID)
		b.markReached(s, n)
	case grant.Tools:
		delete(s.server(n.Server).tools, n.ID)
		s.forget(n.Server)
		b.markReached(s, n)
	case grant.Sessions:
		b.removeSession(s, n)
	case grant.Namespaces, grant.Fleets:
	}
	if len(s.agents)+len(s.grants)+len(s.servers)+len(s.sessions) == 0 {
		delete(b.spaces, n.Namespace)
	}
}

func (b *builder) putAgent(s *space, n grant.Name, m *grantv1.Agent, entry *Entry) {
	a, ok := s.agents[n.ID]
	if !ok {
		a = &agent{
			id: n.ID, space: s, view: nothing,
			grants: make(set[*granted]), reaches: make(map[reach]int),
		}
		s.agents[n.ID] = a
		delete(b.gone, entry.Name)
		b.mark(a, grant.Name{Collection: grant.Fleets})
		b.mark(a, grant.Name{Collection: grant.Fleets, Namespace: s.namespace})
	}
	if a.stored.GetUid() != m.GetUid() {
		b.markSessions(a)
	}
	for k, v := range a.stored.GetLabels() {
		drop(s.labelled, label{k, v}, a)
	}
	for k, v := range m.GetLabels() {
		add(s.labelled, label{k, v}, a)
	}
	a.stored, a.entry = m, entry
	b.mark(a, n)

	candidates := make(set[*granted])
	for g := range s.naming[a.id] {
		candidates[g] = struct{}{}
	}
	for k, v := range m.GetLabels() {
		for g := range s.selecting[label{k, v}] {
			candidates[g] = struct{}{}
		}
	}
	for g := range a.grants {
		if !grant.Covers(g.stored.GetSubjects(), a.id, m.GetLabels()) {
			b.unlink(a, g)
		}
	}
	for g := range candidates {
		if _, ok := a.grants[g]; !ok && grant.Covers(g.stored.GetSubjects(), a.id, m.GetLabels()) {
			b.link(a, g)
		}
	}
}

func (b *builder) removeAgent(s *space, n grant.Name) {
	a, ok := s.agents[n.ID]
	if !ok {
		return
	}
	for g := range a.grants {
		delete(g.covers, a)
	}
	for k, v := range a.stored.GetLabels() {
		drop(s.labelled, label{k, v}, a)
	}
	delete(s.agents, n.ID)
	delete(b.marked, a)
	b.gone[n.String()] = struct{}{}
}

// replaceGrant is putGrant for one that covers and reaches what it did before; it
// reports whether it was.
func (b *builder) replaceGrant(s *space, n grant.Name, m *grantv1.Grant, entry *Entry) bool {
	g, ok := s.grants[n.ID]
	if !ok || !proto.Equal(g.stored.GetSubjects(), m.GetSubjects()) || !slices.Equal(g.reaches, reachOf(m)) {
		return false
	}
	g.stored, g.entry = m, entry
	for a := range g.covers {
		b.mark(a, n)
	}
	return true
}

func (b *builder) putGrant(s *space, n grant.Name, m *grantv1.Grant, entry *Entry) {
	g := &granted{id: n.ID, stored: m, entry: entry, reaches: reachOf(m), covers: make(set[*agent])}
	s.grants[n.ID] = g
	for _, r := range g.reaches {
		add(s.reaching, r, g)
	}
	candidates := make(set[*agent])
	for _, id := range m.GetSubjects().GetAgents() {
		add(s.naming, id, g)
		if a, ok := s.agents[id]; ok {
			candidates[a] = struct{}{}
		}
	}
	if first, ok := firstLabel(m); ok {
		add(s.selecting, first, g)
		for a := range s.labelled[first] {
			candidates[a] = struct{}{}
		}
	}
	for a := range candidates {
		if grant.Covers(m.GetSubjects(), a.id, a.stored.GetLabels()) {
			b.link(a, g)
		}
	}
}

func (b *builder) removeGrant(s *space, n grant.Name) {
	g, ok := s.grants[n.ID]
	if !ok {
		return
	}
	for a := range g.covers {
		b.unlink(a, g)
	}
	for _, r := range g.reaches {
		drop(s.reaching, r, g)
	}
	for _, id := range g.stored.GetSubjects().GetAgents() {
		drop(s.naming, id, g)
	}
	if first, ok := firstLabel(g.stored); ok {
		drop(s.selecting, first, g)
	}
	delete(s.grants, n.ID)
}
