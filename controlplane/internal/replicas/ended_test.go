package replicas

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// P2: a control plane that hangs, or cannot be reached, is waited out by the
// longest bound of all, and named.
func TestUnheard(t *testing.T) {
	for name, harm := range map[string]func(*node){
		"stopped": func(n *node) { n.paused = true },
		"apart":   func(n *node) { n.apart["a:1"] = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				a := w.start("a:1", time.Second)
				b := w.start("b:1", bound)
				time.Sleep(2 * lookEvery)
				s := w.sidecar("x", "1")
				s.hold(b)
				w.set(func() { harm(b) })
				r := w.change("x", 0)
				var seen *adminv1.AwaitRevisionResponse
				took := w.await(a, r, func(p *adminv1.AwaitRevisionResponse) error {
					if !p.GetInForce() {
						seen = p
					}
					return nil
				})
				if took != lasts {
					t.Errorf("in force after %s, want %s", took, lasts)
				}
				if u := seen.GetUnheardReplicas(); len(u) != 1 || u[0].GetReplica() != "b:1" || u[0].GetState() != adminv1.Replica_UNREACHABLE {
					t.Errorf("progress %v", seen)
				}
			})
		})
	}
}

// P2: nobody is fresh by a control plane that was marked ended while it hung, and
// that goes on where it was: it finds out, and announces itself anew.
func TestTakenForDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, _ := three(t)
		s := w.sidecar("x", "1")
		s.hold(b)
		w.set(func() { b.paused = true })
		time.Sleep(2 * deadAfter)
		if got := ended(w); got != 1 {
			t.Fatalf("%d presences have ended, want the one that hangs", got)
		}
		r := w.change("x", 0)
		if took := w.await(a, r, nil); took > tick {
			t.Errorf("in force after %s, with nobody fresh", took)
		}
		w.set(func() { b.paused, b.lagging = false, true })
		if err := s.renew(); err == nil {
			t.Error("granted by a control plane that was marked ended")
		}
		w.check()
		w.set(func() { b.lagging = false })
		time.Sleep(2 * lookEvery)
		s.receive(true)
		if err := s.renew(); err != nil {
			t.Errorf("not granted by a control plane that announced itself anew: %v", err)
		}
		r = w.change("x", 0)
		w.acknowledging(2*tick, s)
		if took := w.await(a, r, nil); took > 50*time.Millisecond {
			t.Errorf("in force after %s, with all well again", took)
		}
	})
}

// P2: who was marked ended lets nobody act from that moment on, also before it
// finds out by itself: nobody counts what it grants any more.
func TestFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a := w.start("a:1", bound)
		b := w.launch("b:1", bound, func(*node) {}) // it never looks
		s := w.sidecar("x", "1")
		s.hold(b)
		w.set(func() {
			for _, p := range w.presences {
				if p.GetReplica() == "b:1" {
					p.EndTime = timestamppb.Now()
				}
			}
		})
		time.Sleep(2 * lasts)
		if err := s.renew(); !errors.Is(err, store.ErrFenced) {
			t.Errorf("renewed at one that was marked ended: %v", err)
		}
		if _, err := b.replicas.Head(t.Context()); !errors.Is(err, errAnnouncing) {
			t.Errorf("read a head before it announced itself anew: %v", err)
		}
		b.lagging = true
		w.await(a, w.change("x", 0), nil)
	})
}

// A control plane that was without the store for a while takes nobody for dead
// when it has it again.
func TestHeardNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, _, _ := three(t)
		w.set(func() { a.cut = true })
		time.Sleep(2 * deadAfter)
		w.set(func() { a.cut = false })
		time.Sleep(deadAfter)
		if n := ended(w); n != 0 {
			t.Errorf("%d presences have ended", n)
		}
	})
}

func ended(w *world) (n int) {
	w.set(func() {
		for _, p := range w.presences {
			if p.GetEndTime() != nil {
				n++
			}
		}
	})
	return n
}

// P2: sidecars of a control plane that died are waited out, whether it is started
// again or not, and by whoever waits: also by one that knows of it from the store
// only.
func TestDied(t *testing.T) {
	for _, again := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w, _, b, _ := three(t)
			s := w.sidecar("x", "1")
			s.hold(b)
			b.kill()
			if again {
				b = w.start("b:1", bound)
			}
			d := w.start("d:1", time.Second)
			r := w.change("x", 0)
			if took := w.await(d, r, nil); took != lasts {
				t.Errorf("started again %v: in force after %s, want %s", again, took, lasts)
			}
			if again {
				if took := w.await(b, w.change("x", 0), nil); took > tick {
					t.Errorf("in force after %s more", took)
				}
			}
		})
	}
}

// P2: whoever ended by himself is waited out from when that was seen.
func TestEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, _ := three(t)
		s := w.sidecar("x", "1")
		s.hold(b)
		if err := b.replicas.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.kill()
		time.Sleep(5 * time.Second)
		if took := w.await(a, w.change("x", 0), nil); took > lasts-3*time.Second || took < lasts-5*time.Second {
			t.Errorf("in force after %s", took)
		}
	})
}

// P2: whoever ended is waited out by the longest bound of then, not by one that a
// grant names since; and its presence goes in the end.
func TestEndedBeforeLongBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, _ := three(t)
		s := w.sidecar("x", "1")
		s.hold(b)
		if err := b.replicas.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.kill()
		time.Sleep(2 * lookEvery)
		w.change("x", rollout.MaxBound)
		if took := w.await(a, w.change("x", 0), nil); took > lasts || took < lasts-3*lookEvery {
			t.Errorf("in force after %s", took)
		}
		time.Sleep(rollout.Outlast(rollout.MaxBound))
		if n := ended(w); n != 0 {
			t.Errorf("%d presences are left", n)
		}
	})
}

// P2: whoever ends while a long bound is named is waited out by it, also when it is
// lowered meanwhile, and raised again.
func TestEndedDuringLongBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, _ := three(t)
		s := w.sidecar("x", "1")
		w.change("x", rollout.MaxBound)
		time.Sleep(2 * tick)
		s.hold(b)
		b.kill()
		time.Sleep(2 * time.Minute) // is taken for dead
		w.change("x", 0)
		if took := w.await(a, w.change("x", 0), nil); took < 10*time.Minute {
			t.Errorf("in force after %s", took)
		}
	})
}
