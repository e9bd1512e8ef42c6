package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// A Standing is how one sidecar stands to an awaited revision. A sidecar that moves
// is known to several control planes: each says how it stands there, and whoever
// saw it on the latest stream is right. Standings bear on what is counted, not on
// what is in force.
type Standing struct {
	// Sidecar tells it from others.
	Sidecar uint64
	// Ordinal counts the instance's streams; see [Stream].
	Ordinal int64
	State   State
}

// A State is how a sidecar stands.
type State int

// The states, as peers tell them.
const (
	Applied State = 1 + iota // it acknowledged everything up to the revision
	Pending                  // it is connected and has not yet
	Refused                  // it is connected and refuses something
	CutOff                   // it has not, and is not connected, or is past its bound
)

// numberOf is what tells a sidecar from others in a [Standing].
func numberOf(h Holder) uint64 {
	sum := sha256.Sum256([]byte(h.Agent + "\x00" + h.Instance + "\x00" + string(h.Key[:])))
	return binary.BigEndian.Uint64(sum[:])
}

// stand returns how sidecars stand that were not told to stand so, maxAsked at the
// most: a message must not become too long to be heard.
func (r *Rollout) stand(w *waiter) (news []Standing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	tell := func(s *sidecar, state State) {
		if st := (Standing{Sidecar: s.number, Ordinal: s.ordinal, State: state}); w.stood[s] != st && len(news) < maxAsked {
			w.stood[s] = st
			news = append(news, st)
		}
	}
	for _, s := range r.sidecars(now) {
		switch {
		case r.applied >= w.revision && r.holds(s) >= w.revision:
			// Of one that left, only what it acknowledged counts: that nothing
			// was to be sent to it is no answer.
			if s.stream != "" || s.acked >= w.revision {
				tell(s, Applied)
			}
		case w.held[s.holder()] > s.ordinal: // it is told where it is
		case !now.Before(s.freshUntil):
			if w.stood[s].State > Applied {
				tell(s, CutOff) // it was late
			}
		case s.stream == "":
			tell(s, CutOff)
		case len(s.refusals) > 0:
			tell(s, Refused)
		default:
			tell(s, Pending)
		}
	}
	for s, st := range w.stood {
		if st.State > Applied && r.byAgent[s.agent][s.instance] != s {
			tell(s, CutOff) // it is past its bound, and forgotten
		}
	}
	return news
}
