package snapshot

import (
	"cmp"
	"slices"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

// finish returns the sets that differ from those of the last finish, by the
// agents' resource names; nil for an agent that is gone.
func (b *builder) finish() map[string]*View {
	changed := make(map[string]*View)
	for name := range b.gone {
		changed[name] = nil
	}
	for a, names := range b.marked {
		if next := b.next(a, names); next != a.view {
			a.view = next
			changed[a.entry.Name] = next
		}
	}
	clear(b.gone)
	clear(b.marked)
	return changed
}

// next returns the agent's set as it must be now, if it differs from its view in
// nothing but names; the view itself if it does not differ.
func (b *builder) next(a *agent, names []grant.Name) *View {
	type change struct {
		name string
		t    Type
		to   *Entry
	}
	var changes []change
	for _, n := range names {
		c := change{name: n.String(), t: typeOf[n.Collection], to: b.wanted(a, n)}
		if a.view.Find(c.t, c.name) != c.to {
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 {
		return a.view
	}
	next := &View{uid: a.stored.GetUid(), state: a.stored.GetState(), bound: a.view.bound}
	shorter := false // what named the longest bound may be gone
	next.entries = make([]*Entry, 0, len(a.view.entries)+len(changes))
	slices.SortFunc(changes, func(x, y change) int {
		return cmp.Or(cmp.Compare(x.t, y.t), strings.Compare(x.name, y.name))
	})
	changes = slices.CompactFunc(changes, func(x, y change) bool { return x.t == y.t && x.name == y.name })
	from := 0
	for _, c := range changes {
		at, there := a.view.find(c.t, c.name)
		next.entries = append(next.entries, a.view.entries[from:at]...)
		if c.to != nil {
			next.entries = append(next.entries, c.to)
			next.bound = max(next.bound, c.to.Bound)
		}
		from = at
		if there {
			was := a.view.entries[at].Bound
			shorter = shorter || was > 0 && was == a.view.bound
			from++
		}
	}
	next.entries = append(next.entries, a.view.entries[from:]...)
	if shorter {
		next.bound = longestBound(next.entries)
	}
	return next
}

// typeOf is the type under which a collection is streamed.
var typeOf = map[grant.Collection]Type{
	grant.Agents: Agents, grant.Servers: Servers, grant.Tools: Tools, grant.Grants: Grants, grant.Fleets: FleetStates,
	grant.Sessions: Sessions,
}

// wanted returns the entry that belongs under n in the agent's set; nil if none.
func (b *builder) wanted(a *agent, n grant.Name) *Entry {
	s := a.space
	switch n.Collection {
	case grant.Agents:
		return a.entry
	case grant.Grants:
		if g, ok := s.grants[n.ID]; ok {
			if _, ok := a.grants[g]; ok {
				return g.entry
			}
		}
	case grant.Servers:
		if v, ok := s.servers[n.ID]; ok && a.reached(n) {
			return v.entry
		}
	case grant.Tools:
		if v, ok := s.servers[n.Server]; ok && a.reached(n) {
			return v.tools[n.ID]
		}
	case grant.Fleets:
		return b.halts[n.Namespace]
	case grant.Sessions:
		// One of an earlier incarnation is nobody's.
		if one := s.sessions[n.Agent][n.ID]; n.Agent == a.id && one.uid == a.stored.GetUid() {
			return one.entry
		}
	case grant.Namespaces:
	}
	return nil
}

// reached reports whether a grant of the agent reaches a server or a tool.
func (a *agent) reached(n grant.Name) bool {
	for _, r := range waysTo(n) {
		if a.reaches[r] > 0 {
			return true
		}
	}
	return false
}
