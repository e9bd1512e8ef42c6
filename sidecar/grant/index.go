package grant

import (
	"hash/maphash"
	"slices"
)

// seed is of this process, so that nobody outside can choose names that
// collide.
var seed = maphash.MakeSeed()

// wildcard stands for every name of a server, and for every server.
const wildcard = "*"

// A thing is what a target names: one thing, every thing of a kind on a server
// (name "*"), or every tool (server "*" too). All resources with a prefix are a
// thing of kind prefixKind.
type thing struct {
	server string
	label
}

// A label is a thing among those of its server.
type label struct {
	kind Kind
	name string
}

// prefixKind is the kind of things that stand for all resources whose URI
// begins with their name.
const prefixKind = ResourceKind | 0x80

// A Cover is the grants that name one thing, or one set of things. It is
// immutable. It holds copies, side by side: a decision is mostly waiting for
// memory.
type Cover struct {
	label
	forbids []Grant
	allows  []Grant
	// tool is the catalogue's entry, if the thing is a tool and there is one.
	tool *Tool
	made *edit
}

func (l label) hash() uint64 {
	// An odd factor permutes the hashes of names, another for each kind.
	return maphash.String(seed, l.name) * (2*uint64(l.kind) + 1)
}

func (c *Cover) key() label { return c.label }

// Tool returns the catalogue's entry of the thing, nil if it is not a tool or
// not in the catalogue.
func (c *Cover) Tool() *Tool { return c.tool }

// Forbids returns the grants that forbid, by name. They must not be changed.
func (c *Cover) Forbids() []Grant { return c.forbids }

// Allows returns the grants that allow, by name. They must not be changed.
func (c *Cover) Allows() []Grant { return c.allows }

// A shelf is what a snapshot knows of one server.
type shelf struct {
	id     string
	server *Server
	// covers are those of single things and of prefixes.
	covers trie[label, *Cover]
	// all are the covers of everything of a kind, by kind; nil where no grant
	// names it.
	all [kinds]*Cover
	// prefixes counts, by length, the prefixes of resources that grants name.
	prefixes []prefixLength
	made     *edit
}

type prefixLength struct{ length, count int }

func (s *shelf) key() string { return s.id }

// index finds what covers a call without looking at what does not.
type index struct {
	shelves trie[string, *shelf]
	// tools covers every tool of every server; nil if no grant does.
	tools *Cover
}

var everyTool = thing{wildcard, label{ToolKind, wildcard}}

func (x *index) shelf(server string) *shelf {
	return x.shelves.get(maphash.String(seed, server), server)
}

// covering appends to dst the covers of a call on the server of s, the most
// exact one first.
func (x *index) covering(dst []*Cover, s *shelf, l label) []*Cover {
	if c := s.covers.get(l.hash(), l); c != nil {
		dst = append(dst, c)
	}
	if l.kind == ResourceKind {
		for _, p := range slices.Backward(s.prefixes) {
			if p.length > len(l.name) {
				continue
			}
			prefix := label{prefixKind, l.name[:p.length]}
			if c := s.covers.get(prefix.hash(), prefix); c != nil {
				dst = append(dst, c)
			}
		}
	}
	if l.kind < kinds && s.all[l.kind] != nil {
		dst = append(dst, s.all[l.kind])
	}
	if l.kind == ToolKind && x.tools != nil {
		dst = append(dst, x.tools)
	}
	return dst
}
