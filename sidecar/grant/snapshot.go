package grant

import "iter"

// A Snapshot is the immutable set of what one agent holds at one revision. It
// is safe for concurrent use.
type Snapshot struct {
	revision int64
}

// Empty returns the snapshot that holds nothing, at revision 0.
func Empty() *Snapshot { return &Snapshot{} }

// Apply returns the snapshot at revision in which the entries named by remove
// are gone and those of upsert are in place of what had their names. A name in
// both ends up in place. s does not change. The cost grows with what is
// changed, not with what is held.
func (s *Snapshot) Apply(revision int64, upsert []Entry, remove []string) *Snapshot {
	return &Snapshot{revision: revision}
}

// Revision returns the revision of the last Apply.
func (s *Snapshot) Revision() int64 { return s.revision }

// Len returns the number of entries.
func (s *Snapshot) Len() int { return 0 }

// Agent returns the agent that the snapshot belongs to; nil if it holds none,
// and then nothing may be done.
func (s *Snapshot) Agent() *Agent { return nil }

// Server returns the server with this id; nil if there is none.
func (s *Snapshot) Server(id string) *Server { return nil }

// Tool returns the tool that server calls name; nil if there is none.
func (s *Snapshot) Tool(server, name string) *Tool { return nil }

// Lookup returns the entry with this resource name, and whether there is one.
func (s *Snapshot) Lookup(name string) (Entry, bool) { return nil, false }

// All returns the entries in the order of their resource names.
func (s *Snapshot) All() iter.Seq[Entry] { return func(func(Entry) bool) {} }
