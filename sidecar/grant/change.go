package grant

import (
	"hash/maphash"
	"slices"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/condition"
)

// A changer applies one change to an index.
type changer struct {
	index
	edit   *edit
	bounds boundsChange
	// sessions are those that go on.
	sessions trie[sessionKey, *running]
	// covers and shelves are those that were made for this change, and for each
	// cover the shelf it is on, nil for those of every server.
	covers  []placed
	shelves []*shelf
}

type placed struct {
	*Cover
	on *shelf
}

// shelf returns the shelf of a server for writing, made if there was none. Ids
// and names are copied, so that they lie close together and not each within a
// message.
func (x *changer) shelf(server string) *shelf {
	hash := maphash.String(seed, server)
	s := x.index.shelves.get(hash, server)
	if s != nil && s.made == x.edit {
		return s
	}
	own := new(shelf)
	if s == nil {
		own.id = strings.Clone(server)
	} else {
		*own = *s
		own.prefixes = slices.Clone(s.prefixes)
	}
	own.made = x.edit
	x.shelves = append(x.shelves, own)
	x.index.shelves = x.index.shelves.put(x.edit, hash, own)
	return own
}

// cover returns the cover of t for writing, made if there was none.
func (x *changer) cover(t thing) *Cover {
	if t.server == wildcard {
		x.every[t.kind] = x.own(nil, x.every[t.kind], t.label)
		return x.every[t.kind]
	}
	s := x.shelf(t.server)
	if t.name == wildcard {
		s.all[t.kind] = x.own(s, s.all[t.kind], t.label)
		return s.all[t.kind]
	}
	hash := t.hash()
	old := s.covers.get(hash, t.label)
	own := x.own(s, old, t.label)
	if own != old {
		s.covers = s.covers.put(x.edit, hash, own)
	}
	return own
}

// own returns c if this change made it, and otherwise a copy that it made.
func (x *changer) own(on *shelf, c *Cover, l label) *Cover {
	if c != nil && c.made == x.edit {
		return c
	}
	own := new(Cover)
	if c == nil {
		own.label = label{l.kind, strings.Clone(l.name)}
	} else {
		*own = *c
		own.forbids, own.allows = slices.Clone(c.forbids), slices.Clone(c.allows)
	}
	own.made = x.edit
	x.covers = append(x.covers, placed{own, on})
	return own
}

// add takes an entry in.
func (x *changer) add(e Entry) {
	switch e := e.(type) {
	case *Grant:
		x.bounds.count(e.bound, 1)
		for _, t := range e.source.targets {
			grants := x.cover(t).grants(e.forbid)
			*grants = append(*grants, *e)
			x.countPrefix(t, 1)
		}
	case *Tool:
		x.cover(e.thing()).tool = e
	case *Server:
		x.shelf(e.id).server = e
	case *Session:
		r := (*running)(e)
		x.sessions = x.sessions.put(x.edit, r.key().hash(), r)
	}
}

// drop takes an entry out.
func (x *changer) drop(e Entry) {
	switch e := e.(type) {
	case *Grant:
		x.bounds.count(e.bound, -1)
		for _, t := range e.source.targets {
			grants := x.cover(t).grants(e.forbid)
			*grants = slices.DeleteFunc(*grants, func(g Grant) bool { return g.name == e.name })
			x.countPrefix(t, -1)
		}
	case *Tool:
		x.cover(e.thing()).tool = nil
	case *Server:
		x.shelf(e.id).server = nil
	case *Session:
		k := (*running)(e).key()
		x.sessions = x.sessions.remove(x.edit, k.hash(), k)
	}
}

// grants returns where the cover keeps forbids or allows.
func (c *Cover) grants(forbid bool) *[]Grant {
	if forbid {
		return &c.forbids
	}
	return &c.allows
}

func (x *changer) countPrefix(t thing, by int) {
	if t.kind != prefixKind {
		return
	}
	s := x.shelf(t.server)
	i, found := slices.BinarySearchFunc(s.prefixes, len(t.name), func(p prefixLength, n int) int { return p.length - n })
	if !found {
		s.prefixes = slices.Insert(s.prefixes, i, prefixLength{length: len(t.name)})
	}
	if s.prefixes[i].count += by; s.prefixes[i].count == 0 {
		s.prefixes = slices.Delete(s.prefixes, i, i+1)
	}
}

// done puts what was changed in order, drops what became empty and returns the
// index.
func (x *changer) done() index {
	for _, c := range x.covers {
		if len(c.forbids) == 0 && len(c.allows) == 0 && c.tool == nil {
			x.take(c)
			continue
		}
		c.forbids, c.allows = settle(c.forbids), settle(c.allows)
	}
	for _, s := range x.shelves {
		if s.server == nil && s.covers.len == 0 && s.all == [kinds]*Cover{} {
			x.index.shelves = x.index.shelves.remove(x.edit, maphash.String(seed, s.id), s.id)
		}
	}
	return x.index
}

// take takes a cover from its shelf.
func (x *changer) take(c placed) {
	switch {
	case c.on == nil:
		x.every[c.kind] = nil
	case c.name == wildcard:
		c.on.all[c.kind] = nil
	default:
		c.on.covers = c.on.covers.remove(x.edit, c.hash(), c.label)
	}
}

// settle puts grants in the order of their names, and what deciding reads of
// them side by side.
func settle(grants []Grant) []Grant {
	if len(grants) == 0 {
		return nil
	}
	byName := func(a, b Grant) int { return strings.Compare(a.name, b.name) }
	if !slices.IsSortedFunc(grants, byName) {
		slices.SortFunc(grants, byName)
	}
	conditions := make([]*condition.Condition, len(grants))
	for i := range grants {
		conditions[i] = &grants[i].condition
	}
	condition.Pack(conditions...)
	return slices.Clip(grants)
}
