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
	entries  trie[string, Entry]
	index    index
}

// Empty returns the snapshot that holds nothing, at revision 0.
func Empty() *Snapshot { return &Snapshot{} }

// Apply returns the snapshot at revision in which the entries named by remove
// are gone and those of upsert are in place of what had their names. A name in
// both ends up in place; of two entries with one name the last one does. s does
// not change. The cost grows with what is changed and with the number of grants
// on the same targets, not with what is held.
func (s *Snapshot) Apply(revision int64, upsert []Entry, remove []string) *Snapshot {
	next := &Snapshot{revision: revision, agent: s.agent, entries: s.entries}
	x := &changer{index: s.index, edit: &edit{}}
	for _, name := range remove {
		hash := maphash.String(seed, name)
		if old := next.entries.get(hash, name); old != nil {
			next.entries = next.entries.remove(x.edit, hash, name)
			next.agent = next.agent.unless(old)
			x.drop(old)
		}
	}
	for _, e := range upsert {
		name := e.Name()
		hash := maphash.String(seed, name)
		if old := next.entries.get(hash, name); old != nil {
			x.drop(old)
		}
		next.entries = next.entries.put(x.edit, hash, e)
		if a, ok := e.(*Agent); ok {
			next.agent = a
		}
		x.add(e)
	}
	next.index = x.done()
	return next
}

// Revision returns the revision of the last Apply.
func (s *Snapshot) Revision() int64 { return s.revision }

// Len returns the number of entries.
func (s *Snapshot) Len() int { return s.entries.len }

// Agent returns the agent that the snapshot belongs to; nil if it holds none,
// and then nothing may be done.
func (s *Snapshot) Agent() *Agent { return s.agent }

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
	if shelf == nil || shelf.server == nil {
		return dst, false
	}
	if kind == 0 || kind >= kinds {
		return dst, true
	}
	return s.index.covering(dst, shelf, label{kind, name}), true
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
