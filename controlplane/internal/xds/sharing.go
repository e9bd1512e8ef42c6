package xds

import (
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
)

const (
	// maxAlike is how many changes a frame that is shared may have, maxSharedBytes
	// how long they may be, and maxShared how many frames of one revision are
	// shared. A change that concerns thousands is small and the same for all of
	// them; what differs from agent to agent is not worth remembering, and of what
	// is long the entries are shared anyway.
	maxAlike       = 4
	maxSharedBytes = 32 << 10
	maxShared      = 64
)

// A sharing encodes frames, those that say the same at the same revision once
// for all streams. It is safe for concurrent use.
type sharing struct {
	mu       sync.Mutex
	revision int64 // of the frames that are kept
	kept     map[alike]encoded
}

// encoded is a frame as it is sent. It is shared, and must not be changed.
type encoded mem.BufferSlice

// alike is what makes two frames the same: all that is encoded of them. A sidecar
// chooses what it asks for, so an empty name may be among those removed.
type alike struct {
	t        snapshot.Type
	nonce    string
	entries  [maxAlike]*snapshot.Entry
	removed  [maxAlike]string
	removals int
}

func newSharing() *sharing { return &sharing{kept: make(map[alike]encoded)} }

// encode returns the frame as it is sent.
func (s *sharing) encode(f frame) encoded {
	if !f.isSmall() {
		return encoded(f.encode())
	}
	k := alike{t: f.t, nonce: f.nonce, removals: len(f.removed)}
	copy(k.entries[:], f.entries)
	copy(k.removed[:], f.removed)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.revision > s.revision {
		s.revision = f.revision
		clear(s.kept)
	}
	e, ok := s.kept[k]
	if !ok {
		e = encoded(mem.BufferSlice{mem.SliceBuffer(f.encode().Materialize())})
		if f.revision == s.revision && len(s.kept) < maxShared {
			s.kept[k] = e
		}
	}
	return e
}

// isSmall reports whether f is worth sharing.
func (f *frame) isSmall() bool {
	if len(f.entries) > maxAlike || len(f.removed) > maxAlike {
		return false
	}
	size := 0
	for _, e := range f.entries {
		size += len(e.Wire)
	}
	for _, name := range f.removed {
		size += len(name)
	}
	return size <= maxSharedBytes
}
