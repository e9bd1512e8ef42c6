package rollout

import (
	"time"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// A Question is what a waiter says of sidecars that other control planes lack, or
// that lack here.
type Question struct {
	// Elsewhere are lacked by others: the answers tell which of them hold the
	// revision here, once they do.
	Elsewhere []Holder
	// Held hold the revision by what others were told. Those of them that were
	// seen on a later stream than here are not waited for any more: a sidecar
	// never goes back.
	Held []Sighting
}

// An Answer tells a waiter how things stand here.
type Answer struct {
	// Progress is among the sidecars of this process. A sidecar that was named in
	// Question.Held is not counted.
	Progress *adminv1.AwaitRevisionResponse
	// Left are lacked here and may be found elsewhere, each named once: those
	// that have no stream, and after a while all.
	Left []Holder
	// Held are of those asked after, each named once for each of its streams.
	Held []Sighting
	// Standings are how sidecars stand, each again when that has changed.
	Standings []Standing
}

// A waiter waits for a revision. Its fields are guarded by the rollout's mu.
type waiter struct {
	revision int64
	since    time.Time
	// lacking are those that it waits for, as of the last look at all; nil
	// before the revision is applied.
	lacking map[*sidecar]struct{}
	// none is sent when nobody lacks the revision any more.
	none chan struct{}
	// late are those that were found lacking and have not been found to hold the
	// revision since. It bears on what is told, not on what is in force.
	late map[Holder]struct{}
	// left are those that were named, and held those that hold the revision
	// elsewhere, with the latest stream on which they were seen to.
	left map[Holder]struct{}
	held map[Holder]int64
	// asked are those asked after, with the stream for which the last answer was,
	// -1 before any; answers are to be told, and answered is sent when there are
	// some.
	asked    map[Holder]int64
	answers  []Sighting
	answered chan struct{}
	// stood is how sidecars were told to stand.
	stood map[*sidecar]Standing
}

func newWaiter(revision int64) *waiter {
	return &waiter{
		revision: revision, since: time.Now(),
		none: make(chan struct{}, 1), answered: make(chan struct{}, 1),
		late: make(map[Holder]struct{}), left: make(map[Holder]struct{}),
		held: make(map[Holder]int64), asked: make(map[Holder]int64),
		stood: make(map[*sidecar]Standing),
	}
}

// found notes that s holds the revision now.
func (w *waiter) found(s *sidecar) {
	delete(w.lacking, s)
	if len(w.lacking) == 0 {
		signal(w.none)
	}
}

// answer notes that a sidecar, if it was asked after and not answered for on this
// stream, holds the revision.
func (w *waiter) answer(s *sidecar) {
	h := s.holder()
	if last, asked := w.asked[h]; asked && s.ordinal > last {
		w.asked[h] = s.ordinal
		w.answers = append(w.answers, Sighting{Holder: h, Ordinal: s.ordinal})
		signal(w.answered)
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
