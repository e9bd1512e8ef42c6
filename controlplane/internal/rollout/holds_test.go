package rollout

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// P2: freshness waits until this process has applied what the store had reached.
func TestGrantWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("a"))
		holding(t, r, "s", "a")
		timed, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Grant(timed, ask("s", "a", 2)); !errors.Is(err, ErrNotHolding) {
			t.Errorf("granted at revision 1, with the store at 2: %v", err)
		}
		time.AfterFunc(time.Second, func() { r.Publish(2, nil) })
		start := time.Now()
		got, err := r.Grant(t.Context(), ask("s", "a", 2))
		if took := time.Since(start); err != nil || got.Held != 2 || took != time.Second {
			t.Errorf("granted on %d after %s: %v", got.Held, took, err)
		}
	})
}

// P2: of a sidecar that is new here nothing is known but what it acknowledges.
func TestOpenedBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(10, nil)
		s := stream("s", "a")
		if err := r.Open(s); err != nil {
			t.Fatal(err)
		}
		h := Holder{Agent: s.Agent, Instance: s.Instance, Key: s.Key}
		for _, c := range []struct {
			acknowledged int64
			holds        bool
		}{{0, false}, {9, false}, {10, true}} {
			r.Acknowledge(s.ID, c.acknowledged)
			if got := r.Holds(h, 10); got != c.holds {
				t.Errorf("with %d acknowledged, it holds 10: %t", c.acknowledged, got)
			}
		}
		h.Key = Key{2}
		if r.Holds(h, 10) {
			t.Error("an instance of another key holds what this one acknowledged")
		}
	})
}

// A revision that did not touch a sidecar is in force though a later one did, which
// it has not acknowledged.
func TestHeldBeforeTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("a"))
		holding(t, r, "s", "a")
		r.Publish(2, touch("b"))
		r.Publish(3, touch("a"))
		if took := await(t, r, 2); took != 0 {
			t.Errorf("2 was in force after %s", took)
		}
		if took := await(t, r, 3); took != lasts {
			t.Errorf("3 was in force after %s", took)
		}
	})
}

// Holds reports whether a sidecar is known here to hold everything of its own up
// to the revision, which this process has applied.
func (r *Rollout) Holds(h Holder, revision int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.find(h)
	return s != nil && r.applied >= revision && r.holds(s) >= revision
}
