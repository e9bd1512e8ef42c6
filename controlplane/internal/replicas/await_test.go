package replicas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

const bound = 10 * time.Second

var lasts = rollout.Outlast(bound)

// three starts three control planes and lets them find each other.
func three(t *testing.T) (w *world, a, b, c *node) {
	t.Helper()
	w = newWorld(t, 1)
	a, b, c = w.start("a:1", bound), w.start("b:1", bound), w.start("c:1", bound)
	time.Sleep(2 * lookEvery)
	return w, a, b, c
}

// sidecar is one more.
func (w *world) sidecar(agent, instance string) *sidecar {
	s := &sidecar{agent: agent, instance: instance}
	w.mu.Lock()
	w.sidecars = append(w.sidecars, s)
	w.mu.Unlock()
	return s
}

// acknowledging has sidecars acknowledge what they get, a little later.
func (w *world) acknowledging(after time.Duration, sidecars ...*sidecar) {
	w.all.Go(func() {
		time.Sleep(after)
		for _, s := range sidecars {
			s.receive(true)
		}
	})
}

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

// Lists name each sidecar once, with the control plane it is at, and the control
// planes that do not answer.
func TestLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, c := three(t)
		x, y := w.sidecar("x", "1"), w.sidecar("y", "1")
		x.hold(a)
		x.leave(true)
		x.hold(b)
		y.hold(a)
		w.set(func() { c.paused = true })
		all, unreachable := a.replicas.List(t.Context())
		if len(all) != 2 || all[0].GetAgent() != "x" || all[0].GetReplica() != "b:1" || !all[0].GetConnected() || all[1].GetReplica() != "a:1" {
			t.Errorf("listed %v", all)
		}
		if !slices.Equal(unreachable, []string{"c:1"}) {
			t.Errorf("unreachable: %v", unreachable)
		}
		got := a.replicas.Replicas(t.Context())
		if len(got) != 3 || got[0].GetState() != adminv1.Replica_SERVING || got[0].GetSidecars() != 1 || got[1].GetSidecars() != 1 ||
			got[2].GetState() != adminv1.Replica_UNREACHABLE || got[2].GetFreshFor().AsDuration() != lasts {
			t.Errorf("control planes: %v", got)
		}
	})
}

// A control plane that answers and has been without the store for a while is told
// as detached, by itself and by the others, with how long the sidecars are fresh
// that it let act; and as serving when it has the store again.
func TestDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, c := three(t)
		want := func(at *node, state adminv1.Replica_State) *adminv1.Replica {
			t.Helper()
			got := at.replicas.Replicas(t.Context())
			if len(got) != 3 || got[0].GetState() != adminv1.Replica_SERVING || got[2].GetState() != adminv1.Replica_SERVING {
				t.Fatalf("control planes: %v", got)
			}
			if m := got[1]; m.GetState() != state || m.GetSidecars() != 1 || m.GetRevision() != 1 {
				t.Errorf("%s tells %v, want %s", at.address, m, state)
			}
			return got[1]
		}
		s := w.sidecar("x", "1")
		s.connect(b)
		s.receive(true)
		w.set(func() { b.cut = true })
		want(a, adminv1.Replica_SERVING)
		time.Sleep(detachedAfter + lookEvery)
		if m := want(a, adminv1.Replica_DETACHED); m.GetFreshFor() != nil {
			t.Errorf("with nobody let act: %v", m)
		}
		want(b, adminv1.Replica_DETACHED) // by what it knew of the others
		w.set(func() { b.before = true })
		want(c, adminv1.Replica_SERVING)
		w.set(func() { b.before, b.cut = false, false })
		time.Sleep(2 * lookEvery)
		want(b, adminv1.Replica_SERVING)
		if err := s.renew(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second / 2)
		w.set(func() { b.cut = true })
		time.Sleep(detachedAfter + lookEvery)
		if m := want(a, adminv1.Replica_DETACHED); m.GetFreshFor().AsDuration() != lasts-detachedAfter-lookEvery-time.Second/2 {
			t.Errorf("with one let act a while ago: %v", m)
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

// Sidecars are told of every control plane that has not ended, first of the one
// that was asked, whether the store answers or not.
func TestAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, b, c := three(t)
		want := func(at *node, sidecar, enroll string) {
			t.Helper()
			if s, e := at.replicas.Addresses(t.Context()); s != sidecar || e != enroll {
				t.Errorf("%s tells of %q and %q, want %q and %q", at.address, s, e, sidecar, enroll)
			}
		}
		want(b, "sidecar.b:1,sidecar.a:1,sidecar.c:1", "enroll.b:1,enroll.a:1,enroll.c:1")
		if err := c.replicas.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(b, "sidecar.b:1,sidecar.a:1", "enroll.b:1,enroll.a:1")
		if err := b.replicas.cfg.Store.EndPresence(t.Context(), b.incarnation()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lookEvery)
		want(b, "sidecar.b:1,sidecar.a:1", "enroll.b:1,enroll.a:1") // under another incarnation
		w.set(func() { b.cut = true })
		want(b, "sidecar.b:1,sidecar.a:1", "enroll.b:1,enroll.a:1")
		w.set(func() { b.cut = false })

		// One of a version before tells of none, and several may have one name.
		for _, p := range []*storev1.Presence{
			{Incarnation: "x", Replica: "x"}, {Incarnation: "y", Replica: "y", SidecarAddress: "sidecar.a:1", EnrollAddress: "enroll.y:1"},
		} {
			if err := b.replicas.cfg.Store.PutPresence(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		want(b, "sidecar.b:1,sidecar.a:1", "enroll.b:1,enroll.a:1,enroll.y:1")
		for i := range maxAdvertised {
			w.start(fmt.Sprintf("n%d:1", i), bound)
		}
		s, e := b.replicas.Addresses(t.Context())
		if strings.Count(s, ",") != maxAdvertised-1 || strings.Count(e, ",") != maxAdvertised-1 || !strings.HasPrefix(s, "sidecar.b:1,sidecar.a:1,sidecar.n0:1,") {
			t.Errorf("of many: %q, %q", s, e)
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
