package xds

import (
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
)

const (
	// maxAlike is how many changes a frame that is shared may have, and maxShared
	// how many frames of one revision are. A change that concerns thousands is
	// small and the same for all of them; what differs from agent to agent is not
	// worth remembering.
	maxAlike  = 4
	maxShared = 64
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

// alike is what makes two frames the same.
type alike struct {
	t       snapshot.Type
	nonce   string
	entries [maxAlike]*snapshot.Entry
	removed [maxAlike]string
}

func newSharing() *sharing { return &sharing{kept: make(map[alike]encoded)} }

// encode returns the frame as it is sent.
func (s *sharing) encode(f frame) encoded {
	if len(f.entries) > maxAlike || len(f.removed) > maxAlike {
		return encoded(f.encode())
	}
	k := alike{t: f.t, nonce: f.nonce}
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
