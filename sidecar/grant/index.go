package grant

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
)

// seed is of this process, so that nobody outside can choose names that
// collide.
var seed = maphash.MakeSeed()

// wildcard stands for every name of a server, and for every server.
const wildcard = "*"

// A thing is what a target names: one thing, every thing of a kind on a server
// (name "*"), or every tool (server "*" too). A prefix of resources is a thing
// of kind prefixKind.
type thing struct {
	kind         Kind
	server, name string
}

// prefixKind is the kind of things that stand for all resources whose URI
// begins with their name.
const prefixKind = ResourceKind | 0x80

func (t thing) hash() uint64 {
	// An odd factor permutes the hashes of names, another for each kind.
	factor := 2*uint64(t.kind) + 1
	return bits.RotateLeft64(maphash.String(seed, t.server), 23) ^ maphash.String(seed, t.name)*factor
}

// A Cover is the grants that name one thing, or one set of things. It is
// immutable.
type Cover struct {
	thing
	forbids []*Grant
	allows  []*Grant
	// tool is the catalogue's entry, if the thing is a tool and there is one.
	tool *Tool
	made *edit
}

func (c *Cover) key() thing { return c.thing }

// Tool returns the catalogue's entry of the thing, nil if it is not a tool or
// not in the catalogue.
func (c *Cover) Tool() *Tool { return c.tool }

// Forbids returns the grants that forbid, by name. They must not be changed.
func (c *Cover) Forbids() []*Grant { return c.forbids }

// Allows returns the grants that allow, by name. They must not be changed.
func (c *Cover) Allows() []*Grant { return c.allows }

// A shelf is what a snapshot knows of one server.
type shelf struct {
	id     string
	server *Server
	// all are the covers of everything of a kind, by kind; nil where no grant
	// names it.
	all [kinds]*Cover
	// prefixes counts, by length, the prefixes of resources that grants name.
	prefixes []prefixLength
}

type prefixLength struct{ length, count int }

func (s *shelf) key() string { return s.id }

// index finds what covers a call without looking at what does not.
type index struct {
	// covers are those of single things and of prefixes.
	covers  trie[thing, *Cover]
	shelves trie[string, *shelf]
	// tools covers every tool of every server; nil if no grant does.
	tools *Cover
}

func (x *index) shelf(server string) *shelf {
	return x.shelves.get(maphash.String(seed, server), server)
}

// cover returns the cover of t; nil if there is none.
func (x *index) cover(t thing) *Cover {
	switch {
	case t == everyTool:
		return x.tools
	case t.name == wildcard:
		if s := x.shelf(t.server); s != nil {
			return s.all[t.kind]
		}
		return nil
	default:
		return x.covers.get(t.hash(), t)
	}
}

// covering appends to dst the covers of a call on the server of s, the most
// exact one first.
func (x *index) covering(dst []*Cover, s *shelf, t thing) []*Cover {
	if c := x.covers.get(t.hash(), t); c != nil {
		dst = append(dst, c)
	}
	if t.kind == ResourceKind {
		for _, p := range slices.Backward(s.prefixes) {
			if p.length > len(t.name) {
				continue
			}
			if c := x.cover(thing{prefixKind, t.server, t.name[:p.length]}); c != nil {
				dst = append(dst, c)
			}
		}
	}
	if t.kind < kinds && s.all[t.kind] != nil {
		dst = append(dst, s.all[t.kind])
	}
	if t.kind == ToolKind && x.tools != nil {
		dst = append(dst, x.tools)
	}
	return dst
}

// A changer applies one change to an index.
type changer struct {
	index
	edit    *edit
	touched []*Cover
}

// own returns the cover of t for writing, made if there was none.
func (x *changer) own(t thing) *Cover {
	c := x.cover(t)
	if c != nil && c.made == x.edit {
		return c
	}
	own := &Cover{thing: t, made: x.edit}
	if c != nil {
		own.tool = c.tool
		own.forbids, own.allows = slices.Clone(c.forbids), slices.Clone(c.allows)
	}
	x.touched = append(x.touched, own)
	x.set(t, own)
	return own
}

// set puts a cover in its place; nil leaves none.
func (x *changer) set(t thing, c *Cover) {
	switch {
	case t == everyTool:
		x.tools = c
	case t.name == wildcard:
		x.alterShelf(t.server, func(s *shelf) { s.all[t.kind] = c })
	case c == nil:
		x.covers = x.covers.remove(x.edit, t.hash(), t)
	default:
		x.covers = x.covers.put(x.edit, t.hash(), c)
	}
}

// alterShelf changes the shelf of a server, which is made if there was none
// and dropped when nothing is left on it.
func (x *changer) alterShelf(server string, alter func(*shelf)) {
	hash := maphash.String(seed, server)
	own := &shelf{id: server}
	if s := x.shelves.get(hash, server); s != nil {
		own.server, own.all, own.prefixes = s.server, s.all, slices.Clone(s.prefixes)
	}
	alter(own)
	if own.server == nil && own.all == [kinds]*Cover{} && len(own.prefixes) == 0 {
		x.shelves = x.shelves.remove(x.edit, hash, server)
		return
	}
	x.shelves = x.shelves.put(x.edit, hash, own)
}

// add takes an entry in.
func (x *changer) add(e Entry) {
	switch e := e.(type) {
	case *Grant:
		for _, t := range e.targets {
			c := x.own(t)
			if e.forbid {
				c.forbids = append(c.forbids, e)
			} else {
				c.allows = append(c.allows, e)
			}
			x.countPrefix(t, 1)
		}
	case *Tool:
		x.own(e.thing()).tool = e
	case *Server:
		x.alterShelf(e.id, func(s *shelf) { s.server = e })
	}
}

// drop takes an entry out.
func (x *changer) drop(e Entry) {
	switch e := e.(type) {
	case *Grant:
		for _, t := range e.targets {
			c := x.own(t)
			if e.forbid {
				c.forbids = without(c.forbids, e)
			} else {
				c.allows = without(c.allows, e)
			}
			x.countPrefix(t, -1)
		}
	case *Tool:
		x.own(e.thing()).tool = nil
	case *Server:
		x.alterShelf(e.id, func(s *shelf) { s.server = nil })
	}
}

func without(grants []*Grant, g *Grant) []*Grant {
	if i := slices.Index(grants, g); i >= 0 {
		return slices.Delete(grants, i, i+1)
	}
	return grants
}

func (x *changer) countPrefix(t thing, by int) {
	if t.kind != prefixKind {
		return
	}
	x.alterShelf(t.server, func(s *shelf) {
		i, found := slices.BinarySearchFunc(s.prefixes, len(t.name), func(p prefixLength, n int) int { return p.length - n })
		if !found {
			s.prefixes = slices.Insert(s.prefixes, i, prefixLength{length: len(t.name)})
		}
		if s.prefixes[i].count += by; s.prefixes[i].count == 0 {
			s.prefixes = slices.Delete(s.prefixes, i, i+1)
		}
	})
}

// done puts what was touched in order and returns the index.
func (x *changer) done() index {
	for _, c := range x.touched {
		if len(c.forbids) == 0 && len(c.allows) == 0 && c.tool == nil {
			x.set(c.thing, nil)
			continue
		}
		sortByName(c.forbids)
		sortByName(c.allows)
	}
	return x.index
}

var everyTool = thing{ToolKind, wildcard, wildcard}

func sortByName(grants []*Grant) {
	byName := func(a, b *Grant) int { return strings.Compare(a.name, b.name) }
	if !slices.IsSortedFunc(grants, byName) {
		slices.SortFunc(grants, byName)
	}
}
