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
			0: lasts, bound / 2: lasts - bound/2, 2 * MaxBound: 0,
		} {
			r := New(Config{Bound: time.Second})
			r.Elsewhere(bound)
			r.Publish(1, touch("a"))
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
