package xds

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

// errProtocol is wrapped by what a control plane must never send. The stream it
// came on is given up, and nothing of the response takes effect.
var errProtocol = errors.New("breach of protocol")

// A holding is what the sidecar holds and what it is in the middle of receiving.
// It knows nothing of streams, time or goroutines; testdata/*.txt says how it
// behaves. It is used by one goroutine.
type holding struct {
	agent  string // resource name of the only agent it takes things for
	prefix string // of every resource name in the agent's namespace

	// snapshot is what is held: everything of the agent's at its revision, less
	// what was taken away urgently since.
	snapshot *grant.Snapshot
	// seen is the newest revision heard of: nobody who is behind it may tell us
	// anything.
	seen int64

	// The fields below are of the current stream.

	// refused is what was refused and not accepted since, with the reason.
	refused map[string]string
	// urgent has the revision at which a name was taken away urgently. Older
	// sets say nothing of that name any more.
	urgent map[string]int64
	// complete says that a whole set was received.
	complete bool
	// afresh says that the stream resumed with nothing although something is held,
	// so that its first set is everything there is.
	afresh bool
	// set is the set being received; nil between sets.
	set *incoming
}

// An incoming is a set of which not every chunk is there.
type incoming struct {
	revision         int64
	received, chunks int
	// upsert and remove are what it changes, by name.
	upsert  map[string]grant.Entry
	remove  map[string]struct{}
	answers []answer
}

// An answer acknowledges or refuses one response.
type answer struct {
	typeURL, nonce string
	// refused are the resources refused, each with the reason.
	refused map[string]string
}

// An outcome is what to do after a response, in order.
type outcome struct {
	// lapse says that freshness ends: something was refused, which may have been
	// to take authority away.
	lapse bool
	// publish is the snapshot to be enforced; nil if nothing changed.
	publish *grant.Snapshot
	// answers are to be sent, once the snapshot is enforced.
	answers []answer
	// complete says that the sidecar holds everything of a revision now.
	complete bool
}

func newHolding(agent string) *holding {
	return &holding{
		agent:    agent,
		prefix:   agent[:strings.LastIndex(agent, "/agents/")+1],
		snapshot: grant.Empty(),
		refused:  make(map[string]string),
		urgent:   make(map[string]int64),
	}
}

// maxResume is how many bytes of names and versions a stream resumes with, at the
// most. Beyond that the requests could be too large, and everything is received
// anew.
const maxResume = 4 << 20

// restart prepares for a new stream, given the newest revision heard of
// elsewhere, and returns what it resumes with: the versions held, by type URL and
// name; none if their names and versions have more than limit bytes. What the
// last one left unfinished is forgotten, refusals too: what was refused is not
// held, so it comes again.
func (h *holding) restart(seen int64, limit int) map[string]map[string]string {
	h.set, h.complete, h.afresh = nil, false, false
	h.seen = max(h.seen, seen)
	clear(h.urgent)
	clear(h.refused)

	held, size := make(map[string]map[string]string), 0
	for e := range h.snapshot.All() {
		url, version := urlOf(e), strconv.FormatInt(e.Revision(), 10)
		if held[url] == nil {
			held[url] = make(map[string]string)
		}
		held[url][e.Name()] = version
		if size += len(e.Name()) + len(version); size > limit {
			h.afresh = true
			return nil
		}
	}
	return held
}

// receive takes in a response. An error wraps errProtocol.
func (h *holding) receive(m *discoveryv3.DeltaDiscoveryResponse) (outcome, error) {
	n, err := parseNonce(m.GetNonce())
	if err != nil {
		return outcome{}, err
	}
	if v := m.GetSystemVersionInfo(); v != strconv.FormatInt(n.revision, 10) {
		return outcome{}, fmt.Errorf("%w: nonce %q at version %q", errProtocol, m.GetNonce(), v)
	}
	floor := h.snapshot.Revision()
	if !h.complete {
		floor = h.seen // a new stream begins where the others were, or later
	}
	if n.revision < floor {
		return outcome{}, fmt.Errorf("%w: revision %d after %d", errProtocol, n.revision, floor)
	}
	b, err := h.parse(m, n.revision)
	if err != nil {
		return outcome{}, err
	}
	if n.urgent {
		return h.take(n, b)
	}
	return h.add(n, b)
}

// take applies an urgent response at once.
func (h *holding) take(n nonce, b body) (outcome, error) {
	if n.chunk != 1 || n.chunks != 1 {
		return outcome{}, fmt.Errorf("%w: urgent response in %d chunks", errProtocol, n.chunks)
	}
	for name := range b.remove {
		if h.gives(name, nil) {
			return outcome{}, fmt.Errorf("%w: urgent removal of %s, which forbids", errProtocol, name)
		}
	}
	for name, e := range b.upsert {
		if h.gives(name, e) {
			return outcome{}, fmt.Errorf("%w: urgent %s, which may allow", errProtocol, name)
		}
	}
	for name := range b.names() {
		h.urgent[name] = n.revision
	}
	h.seen = max(h.seen, n.revision)
	return h.publish(h.snapshot.Revision(), b, []answer{b.answer}), nil
}

// gives reports whether putting e in the place of what is held under name, or
// removing that if e is nil, may give authority.
func (h *holding) gives(name string, e grant.Entry) bool {
	if held, ok := h.snapshot.Lookup(name); ok && takes(held) {
		return true
	}
	return e != nil && !takes(e)
}

// takes reports whether holding e only takes authority away.
func takes(e grant.Entry) bool {
	switch e := e.(type) {
	case *grant.Grant:
		return e.Forbids()
	case *grant.Agent:
		return !e.Active()
	case *grant.FleetState:
		return true
	default:
		return false
	}
}

// add takes in one chunk of a set, and applies the set with the last.
func (h *holding) add(n nonce, b body) (outcome, error) {
	s := h.set
	if s == nil {
		s = &incoming{
			revision: n.revision, chunks: n.chunks,
			upsert: make(map[string]grant.Entry), remove: make(map[string]struct{}),
		}
	}
	if s.revision != n.revision || s.chunks != n.chunks || s.received+1 != n.chunk {
		return outcome{}, fmt.Errorf("%w: chunk %d of %d at revision %d, want %d of %d at %d",
			errProtocol, n.chunk, n.chunks, n.revision, s.received+1, s.chunks, s.revision)
	}
	h.set = s
	s.received++
	s.answers = append(s.answers, b.answer)
	for name, e := range b.upsert {
		delete(s.remove, name)
		s.upsert[name] = e
	}
	for name := range b.remove {
		delete(s.upsert, name)
		s.remove[name] = struct{}{}
	}
	if s.received < s.chunks {
		return outcome{}, nil
	}
	h.set = nil
	all := body{upsert: s.upsert, remove: s.remove, refused: make(map[string]string)}
	for _, a := range s.answers {
		for name, reason := range a.refused {
			all.refused[name] = reason
		}
	}
	if h.afresh && !h.complete {
		h.drop(all)
	}
	for name, at := range h.urgent {
		if at > s.revision {
			// Taken away since the set was made.
			all.forget(name)
		} else {
			delete(h.urgent, name)
		}
	}
	h.complete = true
	h.seen = max(h.seen, s.revision)
	out := h.publish(s.revision, all, s.answers)
	out.complete = len(h.refused) == 0
	return out, nil
}

// drop adds to b, which is everything there is, the removal of what is held and
// not in it.
func (h *holding) drop(b body) {
	for e := range h.snapshot.All() {
		if !b.mentions(e.Name()) {
			b.remove[e.Name()] = struct{}{}
		}
	}
}

// publish makes what is held at the revision of b and what was held.
func (h *holding) publish(revision int64, b body, answers []answer) outcome {
	for name := range b.names() {
		delete(h.refused, name)
	}
	upsert := make([]grant.Entry, 0, len(b.upsert))
	for _, e := range b.upsert {
		upsert = append(upsert, e)
	}
	remove := make([]string, 0, len(b.remove)+len(b.refused))
	for name := range b.remove {
		remove = append(remove, name)
	}
	for name, reason := range b.refused {
		// A refused version is not held, and neither is what it was to replace.
		h.refused[name] = reason
		remove = append(remove, name)
	}
	h.snapshot = h.snapshot.Apply(revision, upsert, remove)
	return outcome{lapse: len(b.refused) > 0, publish: h.snapshot, answers: answers}
}
