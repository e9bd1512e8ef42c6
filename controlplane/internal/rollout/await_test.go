package rollout

import (
	"testing"
	"testing/synctest"
	"time"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// Who was waited out is counted as cut off for as long as the wait lasts, and no
// longer once it is back and holds the revision.
func TestWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("paused", "back"))
		holding(t, r, "stream of paused", "paused")
		holding(t, r, "stream of back", "back")
		time.Sleep(bound / 2)
		holding(t, r, "stream of slow", "slow")
		r.Publish(2, touch("paused", "back", "slow"))
		r.Close("stream of back")
		time.AfterFunc(bound*3/4, func() { // stale by then, and forgotten
			if err := r.Open(stream("another of back", "back")); err != nil {
				t.Error(err)
			}
			r.Acknowledge("another of back", 2)
		})
		type counts struct{ applied, pending, cutOff int32 }
		var told []counts
		err := r.Await(t.Context(), 2, func(p *adminv1.AwaitRevisionResponse) error {
			c := counts{p.GetApplied(), p.GetPending(), p.GetCutOff()}
			if len(told) == 0 || told[len(told)-1] != c {
				told = append(told, c)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []counts{{0, 2, 1}, {0, 1, 2}, {1, 1, 1}, {1, 0, 2}}
		if len(told) != len(want) {
			t.Fatalf("told %v; want %v", told, want)
		}
		for i := range want {
			if told[i] != want[i] {
				t.Errorf("told %v; want %v", told, want)
			}
		}
	})
}

// P2: who comes with freshness from another control plane counts for as long as
// that lasts, and who comes with none does not.
func TestComesFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for age, want := range map[time.Duration]time.Duration{
			0: lasts, bound / 2: lasts - bound/2, 2 * MaxBound: 0, // on a set that names no bound
			time.Minute: Outlast(MaxBound) - time.Minute, // on one that does
		} {
			r := New(Config{Bound: time.Second})
			r.Elsewhere(bound)
			changed := touch("a")
			if age == time.Minute {
				changed[0].Bound = MaxBound
			}
			r.Publish(1, changed)
			s := stream("s", "a")
			s.Age = age
			if err := r.Open(s); err != nil {
				t.Fatal(err)
			}
			if took := await(t, r, 1); took != want {
				t.Errorf("age %s: in force after %s, want %s", age, took, want)
			}
		}
	})
}

// P2: whom this process let act stays known while any grant may name a bound: the
// sidecar may get one from another control plane when it has long been stale.
func TestLongBoundComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("a"))
		holding(t, r, "s", "a")
		r.Close("s")
		time.Sleep(time.Minute)
		if took := await(t, r, 1); took != 0 || len(r.List()) != 0 {
			t.Errorf("waited %s for a sidecar that is stale; list %v", took, r.List())
		}
		r.Publish(2, []Touched{{Agent: "a", Bound: MaxBound}})
		r.Publish(3, touch("a"))
		if took := await(t, r, 3); took != Outlast(MaxBound)-time.Minute {
			t.Errorf("in force after %s, want %s", took, Outlast(MaxBound)-time.Minute)
		}
	})
}

// P2: what is known of a sidecar's bound goes down only with its acknowledgement
// of the newest set.
func TestBoundIsLowered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, []Touched{{Agent: "a", Bound: time.Minute}})
		holding(t, r, "s", "a")
		r.Publish(2, touch("a"))
		r.Publish(3, touch("a"))
		r.Acknowledge("s", 2) // not the newest
		if took := await(t, r, 3); took != Outlast(time.Minute) {
			t.Errorf("in force after %s, want %s", took, Outlast(time.Minute))
		}
		r.Acknowledge("s", 3)
		if _, _, err := r.Grant(t.Context(), ask("s", "a", 3)); err != nil {
			t.Fatal(err)
		}
		r.Publish(4, touch("a"))
		if took := await(t, r, 4); took != lasts {
			t.Errorf("in force after %s, want %s", took, lasts)
		}
	})
}
