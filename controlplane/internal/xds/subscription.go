package xds

import (
	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
)

const (
	// maxUnanswered is how many sets may be unanswered before the normal lane
	// waits. The urgent lane never does.
	maxUnanswered = 8
	// maxOutstanding is how many responses may be unanswered before the stream
	// is given up.
	maxOutstanding = 4096
)

// A subscription is what one stream asked for, was sent, has answered and
// refuses. It knows nothing of streams, time or goroutines; testdata/*.txt says
// how it behaves. It is used by one goroutine at a time.
type subscription struct {
	asked [snapshot.Types]filter

	// sent is the set that the sidecar will hold once it has everything of the
	// last set that was begun; before is the one that it holds until then.
	sent, before *snapshot.View
	// differs is where the sidecar differs from sent: it was told urgently, or
	// resumed with something else, or asks again.
	differs map[key]told
	// asks is how many names were subscribed to and unsubscribed from since the
	// last set was begun.
	asks int
	// revision is that of the last set begun, and sets how many there were.
	revision int64
	sets     int
	// urged is the newest set that the urgent lane has looked at.
	urged *snapshot.View
	// urgent and normal are what is not sent yet, urgent first.
	urgent, normal []frame

	// outstanding are the responses sent from the first unanswered one on, with
	// answered ones among them, and unanswered the number of sets in there.
	outstanding []sentFrame
	unanswered  int
	// acked is the revision of the last set such that it and everything sent
	// before it was answered.
	acked   int64
	refused map[string]refusal
}

// A key is what a resource is known by on the wire.
type key struct {
	t    snapshot.Type
	name string
}

// told is what the sidecar has under a key.
type told struct {
	// revision is that of the entry: 0 if it has none, unknown if it is not
	// known whether and what.
	revision int64
	takes    bool
}

const unknown = -1

func (d told) is(want *snapshot.Entry) bool {
	if want == nil {
		return d.revision == 0
	}
	return d.revision == want.Revision
}

func tellOf(e *snapshot.Entry) told {
	if e == nil {
		return told{}
	}
	return told{revision: e.Revision, takes: e.Takes}
}

type sentFrame struct {
	frame
	// completes is the revision of the set that the frame is the last of; or 0.
	completes int64
	answered  bool
}

// A refusal is a resource that the sidecar refused.
type refusal struct {
	detail string
	// revision is that of the resource, and at that of the response.
	revision, at int64
}

func newSubscription() *subscription {
	return &subscription{
		sent: snapshot.Nothing(), before: snapshot.Nothing(),
		differs: make(map[key]told), refused: make(map[string]refusal),
	}
}

// ready reports whether every type was asked for. Before that nothing is sent,
// so that no sidecar takes a part for the whole.
func (s *subscription) ready() bool {
	for i := range s.asked {
		if !s.asked[i].opened {
			return false
		}
	}
	return true
}

// next returns the next response to be sent, given the newest set and the
// revision of the snapshot it is of. It is to be called until ok is false, and
// again after each request and with each newer set.
func (s *subscription) next(revision int64, view *snapshot.View) (f frame, ok bool) {
	if !s.ready() {
		return frame{}, false
	}
	same := view == s.sent && len(s.differs) == 0 && s.sets > 0
	switch {
	case len(s.normal) > 0 || s.gated(revision):
		if !same && view != s.urged && !s.starting() {
			s.urge(revision, view)
		}
	case !same:
		s.begin(revision, view)
	}
	out := sentFrame{}
	switch {
	case len(s.urgent) > 0:
		out.frame, s.urgent = s.urgent[0], s.urgent[1:]
		if len(s.urgent) == 0 {
			s.urgent = nil
		}
	case len(s.normal) > 0:
		out.frame, s.normal = s.normal[0], s.normal[1:]
		if len(s.normal) == 0 {
			s.normal = nil // what was sent is not held on to
			out.completes = s.revision
			s.unanswered++
		}
	default:
		return frame{}, false
	}
	s.outstanding = append(s.outstanding, out)
	return out.frame, true
}

// gated reports whether the normal lane must wait for answers: to a sidecar that
// is too far behind, or because a set of this revision is unanswered already,
// whose nonces a second would repeat.
func (s *subscription) gated(revision int64) bool {
	return s.unanswered >= maxUnanswered || s.sets > 0 && revision == s.revision && len(s.outstanding) > 0
}

// starting reports whether the first set is on its way. Until it is sent, what
// the sidecar enforces is what it resumed with, which is known by version only:
// too little to tell what takes authority away from it.
func (s *subscription) starting() bool { return s.sets <= 1 && len(s.normal) > 0 }

// begin starts the set of view.
func (s *subscription) begin(revision int64, view *snapshot.View) {
	var all chunker
	for c := range s.changes(view) {
		all.add(c)
	}
	if all.size > maxChunk && s.sets > 0 {
		s.urge(revision, view)
	}
	s.before, s.sent, s.revision = s.sent, view, revision
	s.sets++
	clear(s.differs)
	s.asks = 0
	s.normal = all.frames(normalLane, revision)
	if len(s.normal) > 0 {
		return
	}
	// Nothing of it concerns the sidecar: it holds the set when it has answered
	// what was sent before.
	if n := len(s.outstanding); n > 0 {
		if s.outstanding[n-1].completes == 0 {
			s.unanswered++
		}
		s.outstanding[n-1].completes = revision
	} else {
		s.acked = revision
	}
}

// urge queues what of view takes authority away and nothing else, ahead of
// everything.
func (s *subscription) urge(revision int64, view *snapshot.View) {
	s.urged = view
	var all [snapshot.Types]chunker
	for c := range s.changes(view) {
		if s.gives(c) || all[c.t].size+c.size() > maxChunk {
			continue // in its turn
		}
		all[c.t].add(c)
		s.differs[c.key] = tellOf(c.entry)
	}
	for t := range all {
		s.urgent = append(s.urgent, all[t].frames(urgentLane, revision)...)
	}
}

// gives reports whether a change may give authority to the sidecar, whatever it
// has of what was sent.
func (s *subscription) gives(c change) bool {
	if c.entry != nil && !c.entry.Takes {
		return true
	}
	if d, ok := s.differs[c.key]; ok && (d.takes || d.revision == unknown) {
		return true
	}
	for _, v := range []*snapshot.View{s.before, s.sent} {
		if e := v.Find(c.t, c.name); e != nil && e.Takes {
			return true
		}
	}
	return false
}
