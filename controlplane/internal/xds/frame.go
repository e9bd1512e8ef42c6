package xds

import (
	"cmp"
	"iter"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// maxChunk is about how many bytes of entries and names go in one response.
const maxChunk = 512 << 10

// The lanes, as they begin a nonce.
const (
	normalLane = "n"
	urgentLane = "u"
)

// typeURLs are the resource types on the wire.
var typeURLs = [snapshot.Types]string{
	snapshot.Agents:  typeURL(&grantv1.Agent{}),
	snapshot.Servers: typeURL(&grantv1.Server{}),
	snapshot.Tools:   typeURL(&grantv1.Tool{}),
	snapshot.Grants:  typeURL(&grantv1.Grant{}),

	snapshot.FleetStates: typeURL(&grantv1.FleetState{}),
	snapshot.Sessions:    typeURL(&grantv1.Session{}),
}

func typeURL(m proto.Message) string {
	return "type.googleapis.com/" + string(proto.MessageName(m))
}

func typeOf(url string) (snapshot.Type, bool) {
	for t := range snapshot.Type(snapshot.Types) {
		if typeURLs[t] == url {
			return t, true
		}
	}
	return 0, false
}

// A frame is one response.
type frame struct {
	t        snapshot.Type
	nonce    string
	revision int64
	entries  []*snapshot.Entry
	removed  []string
}

// encode returns the frame as a DeltaDiscoveryResponse: a header of its own and
// the bytes of its entries, which all frames of all streams share.
func (f frame) encode() mem.BufferSlice {
	var b []byte
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendString(b, strconv.FormatInt(f.revision, 10))
	b = protowire.AppendTag(b, 4, protowire.BytesType)
	b = protowire.AppendString(b, typeURLs[f.t])
	b = protowire.AppendTag(b, 5, protowire.BytesType)
	b = protowire.AppendString(b, f.nonce)
	for _, name := range f.removed {
		b = protowire.AppendTag(b, 6, protowire.BytesType)
		b = protowire.AppendString(b, name)
	}
	out := make(mem.BufferSlice, 0, len(f.entries)+1)
	out = append(out, mem.SliceBuffer(b))
	for _, e := range f.entries {
		out = append(out, mem.SliceBuffer(e.Wire))
	}
	return out
}

// A change is a key under which the sidecar is to have the entry, or nothing.
type change struct {
	key
	entry *snapshot.Entry
}

func (c change) size() int {
	if c.entry != nil {
		return len(c.entry.Wire)
	}
	return len(c.name) + 2
}

// changes returns what the sidecar must be told so that it holds what it asked
// for of view, in order of type and name.
func (s *subscription) changes(view *snapshot.View) iter.Seq[change] {
	return func(yield func(change) bool) {
		var again []change
		for k, d := range s.differs {
			c := change{key: k}
			if s.asked[k.t].matches(k.name) {
				c.entry = view.Find(k.t, k.name)
			}
			if !d.is(c.entry) {
				again = append(again, c)
			}
		}
		slices.SortFunc(again, compareChanges)
		for c := range s.difference(view) {
			if _, ok := s.differs[c.key]; ok || !s.asked[c.t].matches(c.name) {
				continue
			}
			for len(again) > 0 && compareChanges(again[0], c) < 0 {
				if !yield(again[0]) {
					return
				}
				again = again[1:]
			}
			if !yield(c) {
				return
			}
		}
		for _, c := range again {
			if !yield(c) {
				return
			}
		}
	}
}

// difference returns what is in view and not in sent, or the other way round.
func (s *subscription) difference(view *snapshot.View) iter.Seq[change] {
	return func(yield func(change) bool) {
		old, to := s.sent.Entries(), view.Entries()
		for len(old) > 0 || len(to) > 0 {
			if len(old) > 0 && len(to) > 0 && old[0] == to[0] {
				old, to = old[1:], to[1:]
				continue
			}
			var c change
			switch o := order(old, to); {
			case o < 0:
				c = change{key: keyOf(old[0])}
				old = old[1:]
			case o > 0:
				c = change{key: keyOf(to[0]), entry: to[0]}
				to = to[1:]
			default:
				c = change{key: keyOf(to[0]), entry: to[0]}
				old, to = old[1:], to[1:]
			}
			if !yield(c) {
				return
			}
		}
	}
}

func keyOf(e *snapshot.Entry) key { return key{e.Type, e.Name} }

// order compares the first of two sets that are not both empty.
func order(a, b []*snapshot.Entry) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	default:
		return compareKeys(keyOf(a[0]), keyOf(b[0]))
	}
}

func compareChanges(a, b change) int { return compareKeys(a.key, b.key) }

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.t, b.t), strings.Compare(a.name, b.name))
}

// A chunker cuts changes, added in order of type, into frames.
type chunker struct {
	size   int // of everything added
	chunks []frame
	last   int // size of the last chunk
}

func (k *chunker) add(c change) {
	size := c.size()
	if n := len(k.chunks); n == 0 || k.chunks[n-1].t != c.t || k.last+size > maxChunk {
		k.chunks = append(k.chunks, frame{t: c.t})
		k.last = 0
	}
	f := &k.chunks[len(k.chunks)-1]
	if c.entry != nil {
		f.entries = append(f.entries, c.entry)
	} else {
		f.removed = append(f.removed, c.name)
	}
	k.size += size
	k.last += size
}

// frames returns the chunks, numbered.
func (k *chunker) frames(lane string, revision int64) []frame {
	for i := range k.chunks {
		k.chunks[i].revision = revision
		k.chunks[i].nonce = nonceOf(lane, revision, i+1, len(k.chunks))
	}
	return k.chunks
}

func nonceOf(lane string, revision int64, chunk, chunks int) string {
	b := append(make([]byte, 0, 32), lane...)
	b = strconv.AppendInt(b, revision, 10)
	b = strconv.AppendInt(append(b, '.'), int64(chunk), 10)
	b = strconv.AppendInt(append(b, '.'), int64(chunks), 10)
	return string(b)
}
