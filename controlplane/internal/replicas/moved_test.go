package replicas

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
)

// P2: a sidecar that moved is settled by the control plane it moved to, for the
// one it left, be the stream there closed or not; also if it acknowledges later,
// and if the one that is asked first is one that lacks it.
func TestMoved(t *testing.T) {
	for name, c := range map[string]struct {
		noticed bool
		after   time.Duration // acknowledged, after the wait began
		most    time.Duration
	}{
		"before":            {noticed: true, most: 0},
		"before, unnoticed": {most: progressEvery},
		"later":             {noticed: true, after: 3 * time.Second, most: 3 * time.Second},
		"later, unnoticed":  {after: 3 * time.Second, most: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, a, b, z := three(t)
				s := w.sidecar("x", "1")
				s.hold(a)
				s.leave(c.noticed)
				s.hold(b)
				r := w.change("x", 0)
				time.Sleep(2 * tick)
				if c.after == 0 {
					s.receive(true)
				} else {
					w.acknowledging(c.after, s)
				}
				if took := w.await(z, r, nil); took > c.most || took < c.after {
					t.Errorf("in force after %s, want %s to %s", took, c.after, c.most)
				}
			})
		})
	}
}

// P2: a control plane that did not notice that a sidecar left knows nothing of what
// the sidecar got since. Its set of the sidecar's agent changed and changed back
// while it hung, so that it has nothing to send, and takes the sidecar to hold all.
func TestMovedUnnoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, z := three(t)
		s := w.sidecar("x", "1")
		s.hold(a)
		s.leave(false)
		s.hold(b)
		w.change("x", 0)
		time.Sleep(2 * tick)
		s.receive(true)
		r := w.change("x", 0)
		time.Sleep(2 * tick)
		for stream := range w.streams {
			a.rollout.Acknowledge(fmt.Sprint("stream ", stream+1), r) // what the set's being the same comes to
		}
		if took := w.await(z, r, nil); took < bound-time.Second {
			t.Errorf("in force after %s", took)
		}
	})
}

// P2: a sidecar that left holding nothing is waited for, whatever an instance of
// that name but another key says.
func TestMovedButAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, z := three(t)
		s := w.sidecar("x", "1")
		s.hold(a)
		s.leave(true)
		r := w.change("x", 0)
		time.Sleep(2 * tick)
		if err := b.rollout.Open(rollout.Stream{ID: "o", Agent: "x", Instance: "1", Key: rollout.Key{9}}); err != nil {
			t.Fatal(err)
		}
		b.rollout.Acknowledge("o", r)
		if took := w.await(z, r, nil); took < bound-time.Second {
			t.Errorf("in force after %s", took)
		}
	})
}
