package grant

import (
	"hash/maphash"
	"iter"
	"slices"
	"strings"
)

// A Snapshot is the immutable set of what one agent holds at one revision, all
// of one namespace. It is safe for concurrent use.
type Snapshot struct {
	revision int64
	agent    *Agent
	halts    int // how many stop buttons there are among the entries
	entries  trie[string, Entry]
	index    index
	bounds   bounds
	sessions trie[sessionKey, *running]
	// claimant is the sidecar whose snapshot it is; empty if that is not known.
	claimant string
}

// Empty returns the snapshot that holds nothing, at revision 0.
func Empty() *Snapshot { return &Snapshot{} }

// Apply returns the snapshot at revision in which the entries named by remove
// are gone and those of upsert are in place of what had their names. A name in
// both ends up in place; of two entries with one name the last one does. s does
// not change. The cost grows with what is changed and with the number of grants
// on the same targets, not with what is held.
func (s *Snapshot) Apply(revision int64, upsert []Entry, remove []string) *Snapshot {
	next := &Snapshot{revision: revision, agent: s.agent, halts: s.halts, entries: s.entries}
	next.claimant = s.claimant
	x := &changer{index: s.index, edit: &edit{}, bounds: boundsChange{bounds: s.bounds}, sessions: s.sessions}
	for _, name := range remove {
		hash := maphash.String(seed, name)
		if old := next.entries.get(hash, name); old != nil {
			next.entries = next.entries.remove(x.edit, hash, name)
			next.agent = next.agent.unless(old)
			next.halts -= halt(old)
			x.drop(old)
		}
	}
	for _, e := range upsert {
		name := e.Name()
		hash := maphash.String(seed, name)
		if old := next.entries.get(hash, name); old != nil {
			next.halts -= halt(old)
			x.drop(old)
		}
		next.entries = next.entries.put(x.edit, hash, e)
		next.halts += halt(e)
		if a, ok := e.(*Agent); ok {
			next.agent = a
		}
		x.add(e)
	}
	next.index, next.bounds, next.sessions = x.done(), x.bounds.bounds, x.sessions
	return next
}

// Revision returns the revision of the last Apply.
func (s *Snapshot) Revision() int64 { return s.revision }

// Len returns the number of entries.
func (s *Snapshot) Len() int { return s.entries.len }

// Agent returns the agent that the snapshot belongs to; nil if it holds none,
// and then nothing may be done.
func (s *Snapshot) Agent() *Agent { return s.agent }

// Halted reports whether a stop button that concerns the agent was pressed: then
// nothing may be done.
func (s *Snapshot) Halted() bool { return s.halts > 0 }

// halt is 1 for a stop button and 0 for everything else.
func halt(e Entry) int {
	if _, ok := e.(*FleetState); ok {
		return 1
	}
	return 0
}

// Server returns the server with this id; nil if there is none.
func (s *Snapshot) Server(id string) *Server {
	if shelf := s.index.shelf(id); shelf != nil {
		return shelf.server
	}
	return nil
}

// Tool returns the tool that server calls name; nil if there is none.
func (s *Snapshot) Tool(server, name string) *Tool {
	if shelf := s.index.shelf(server); shelf != nil {
		l := label{ToolKind, name}
		if c := shelf.covers.get(l.hash(), l); c != nil {
			return c.tool
		}
	}
	return nil
}

// Covering appends to dst the covers whose grants name a thing or a set that it
// is in, the most exact one first. known is false if there is no such server. A
// tool of the catalogue always has a cover of its own.
func (s *Snapshot) Covering(dst []*Cover, kind Kind, server, name string) (covers []*Cover, known bool) {
	shelf := s.index.shelf(server)
	known = shelf != nil && shelf.server != nil
	if kind == 0 || kind >= kinds {
		return dst, known
	}
	return s.index.covering(dst, shelf, label{kind, name}), known
}

// Lookup returns the entry with this resource name, and whether there is one.
func (s *Snapshot) Lookup(name string) (Entry, bool) {
	e := s.entries.get(maphash.String(seed, name), name)
	return e, e != nil
}

// All returns the entries in the order of their resource names.
func (s *Snapshot) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		entries := make([]Entry, 0, s.Len())
		s.entries.root.all(func(e Entry) bool {
			entries = append(entries, e)
			return true
		})
		slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name(), b.Name()) })
		for _, e := range entries {
			if !yield(e) {
				return
			}
		}
	}
}

// seed is of this process, so that nobody outside can choose names that
// collide.
var seed = maphash.MakeSeed()

// wildcard stands for every name of a server, and for every server.
const wildcard = "*"

// A thing is what a target names: one thing, every thing of a kind on a server
// (name "*"), or on every server (server "*" too). All resources with a prefix
// are a thing of kind prefixKind.
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

// noShelf is that of a server of which nothing is known. It is never changed.
var noShelf shelf

// index finds what covers a call without looking at what does not.
type index struct {
	shelves trie[string, *shelf]
	// every are the covers of everything of a kind on every server, by kind; nil
	// where no grant names it.
	every [kinds]*Cover
}

func (x *index) shelf(server string) *shelf {
	return x.shelves.get(maphash.String(seed, server), server)
}

// covering appends to dst the covers of a call on the server of s, the most
// exact one first. s is nil if nothing is known of the server.
func (x *index) covering(dst []*Cover, s *shelf, l label) []*Cover {
	if s == nil {
		s = &noShelf
	}
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
	if l.kind >= kinds {
		return dst
	}
	for _, c := range [...]*Cover{s.all[l.kind], x.every[l.kind]} {
		if c != nil {
			dst = append(dst, c)
		}
	}
	return dst
}
