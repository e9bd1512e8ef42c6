package replicas

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// P2: with all well, a wait over three control planes takes as long as the
// sidecars take, and counts each once.
func TestAllAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, c := three(t)
		x, y, z := w.sidecar("x", "1"), w.sidecar("x", "2"), w.sidecar("y", "1")
		x.hold(a)
		y.hold(b)
		z.hold(c)
		r := w.change("x", 0)
		w.acknowledging(2*tick, x, y)
		var last *adminv1.AwaitRevisionResponse
		took := w.await(c, r, func(p *adminv1.AwaitRevisionResponse) error {
			last = p
			return nil
		})
		if took != 2*tick {
			t.Errorf("in force after %s", took)
		}
		if !last.GetInForce() || last.GetApplied() != 3 || last.GetElapsed().AsDuration() != took || last.GetSafeIn() != nil {
			t.Errorf("last progress %v", last)
		}
	})
}

// P2: a sidecar of another control plane that does not acknowledge is waited out,
// and named meanwhile with its control plane.
func TestStraggler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, _ := three(t)
		s := w.sidecar("x", "1")
		s.hold(b)
		time.Sleep(time.Second)
		r := w.change("x", 0)
		var seen *adminv1.AwaitRevisionResponse
		var last *adminv1.AwaitRevisionResponse
		took := w.await(a, r, func(p *adminv1.AwaitRevisionResponse) error {
			if p.GetPending() == 1 {
				seen = p
			}
			last = p
			return nil
		})
		if took != lasts-time.Second {
			t.Errorf("in force after %s, want %s", took, lasts-time.Second)
		}
		if len(seen.GetStragglers()) != 1 || seen.GetStragglers()[0].GetReplica() != "b:1" || seen.GetSafeIn().AsDuration() > lasts {
			t.Errorf("progress %v", seen)
		}
		if last.GetCutOff() != 1 || last.GetPending() != 0 {
			t.Errorf("last progress %v", last)
		}
	})
}

// P2: the longest bound of grants counts for control planes that do not answer,
// until it was waited out and lowered.
func TestLongBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, _ := three(t)
		s := w.sidecar("x", "1")
		w.change("x", time.Minute)
		time.Sleep(2 * tick)
		s.hold(b)
		w.set(func() { b.paused = true })
		r := w.change("x", 0)
		if took := w.await(a, r, nil); took != rollout.Outlast(time.Minute) {
			t.Errorf("in force after %s, want %s", took, rollout.Outlast(time.Minute))
		}
		time.Sleep(5 * time.Minute) // the janitor
		w.set(func() {
			if w.head.LongestBound != 0 {
				t.Errorf("the longest bound is still %s", w.head.LongestBound)
			}
		})
	})
}

// P2: the longest bound is not lowered while a sidecar may act on a grant that
// named it, also if nobody asks.
func TestLoweredWhenWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, _ := three(t)
		s := w.sidecar("x", "1")
		w.change("x", 5*time.Minute)
		time.Sleep(2 * tick)
		s.hold(b)
		w.set(func() { b.paused = true })
		r := w.change("x", 0)
		time.Sleep(time.Minute) // the janitor has looked
		if took := w.await(a, r, nil); took < 4*time.Minute {
			t.Errorf("in force after %s more", took)
		}
	})
}

// P2: without the store a control plane lets nobody act, and a wait that cannot
// read who is present is never too early.
func TestWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, _ := three(t)
		s := w.sidecar("x", "1")
		s.hold(b)
		r := w.change("x", 0)
		w.set(func() { a.cut = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := a.replicas.Head(ctx); err == nil {
			t.Error("read a head without the store")
		}
		w.all.Go(func() {
			time.Sleep(30 * time.Second)
			w.set(func() { a.cut = false })
		})
		var unheard *adminv1.AwaitRevisionResponse
		took := w.await(a, r, func(p *adminv1.AwaitRevisionResponse) error {
			if len(p.GetUnheardReplicas()) > 0 {
				unheard = p
			}
			return nil
		})
		if took < 20*time.Second || took > 31*time.Second {
			t.Errorf("in force after %s", took)
		}
		if u := unheard.GetUnheardReplicas(); len(u) != 1 || u[0].GetReplica() != "a:1" || u[0].GetState() != adminv1.Replica_DETACHED ||
			u[0].GetFreshFor().AsDuration() > unheard.GetSafeIn().AsDuration() || unheard.GetSafeIn() == nil {
			t.Errorf("without the store: %v", unheard)
		}
	})
}

// A waiter that goes away leaves nothing behind, anywhere.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, _ := three(t)
		s := w.sidecar("x", "1")
		s.hold(b)
		r := w.change("x", 0)
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.replicas.Await(ctx, r, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("await: %v", err)
		}
		stop := errors.New("stop")
		if err := a.replicas.Await(t.Context(), r, func(*adminv1.AwaitRevisionResponse) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("await: %v", err)
		}
		synctest.Wait()
		if n := a.rollout.Waiters() + b.rollout.Waiters(); n != 0 {
			t.Errorf("%d waiters are left", n)
		}
	})
}

// What is read for freshness counts as reading the store.
func TestHeadReadsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a := w.launch("a:1", bound, func(*node) {}) // it never looks
		time.Sleep(2 * detachedAfter)
		if _, err := a.replicas.Head(t.Context()); err != nil || a.replicas.here().StoreAge != 0 {
			t.Errorf("read %s ago, after a read: %v", a.replicas.here().StoreAge, err)
		}
	})
}

// A control plane of a store that is its own takes the place of all that were.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		first := w.start("", bound)
		s := w.sidecar("x", "1")
		s.hold(first)
		first.kill()
		second := w.start("", time.Second)
		if took := w.await(second, w.change("x", 0), nil); took != lasts {
			t.Errorf("in force after %s, want %s", took, lasts)
		}
		if took := w.await(second, w.change("x", 0), nil); took > tick {
			t.Errorf("in force after %s more", took)
		}
		if s, e := second.replicas.Addresses(t.Context()); s != "sidecar." || e != "enroll." {
			t.Errorf("tells of %q and %q, not of itself alone", s, e)
		}
	})
}
