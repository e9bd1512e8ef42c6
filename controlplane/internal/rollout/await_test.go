package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
		for left, want := range map[time.Duration]time.Duration{
			-1: 0, 0: 0, bound: lasts, time.Minute: Outlast(time.Minute), 2 * MaxBound: Outlast(MaxBound),
		} {
			r := New(Config{Bound: time.Second})
			r.Publish(1, touch("a"))
			s := stream("s", "a")
			s.FreshFor = left
			if err := r.Open(s); err != nil {
				t.Fatal(err)
			}
			if took := await(t, r, 1); took != want {
				t.Errorf("fresh for %s: in force after %s, want %s", left, took, want)
			}
		}
	})
}

// P2, P8: freshness lasts for as long as it was granted for: no longer when a grant
// with a longer bound is made since, and no shorter when one goes.
func TestLastsAsGranted(t *testing.T) {
	for _, c := range []struct{ before, since, want time.Duration }{
		{0, MaxBound, lasts},
		{time.Second, MaxBound, lasts},
		{time.Minute, MaxBound, Outlast(time.Minute)},
		{time.Minute, 0, Outlast(time.Minute)},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := New(Config{Bound: bound})
			r.Publish(1, []Touched{{Agent: "a", Bound: c.before}})
			holding(t, r, "s", "a")
			r.Publish(2, []Touched{{Agent: "a", Bound: c.since}})
			r.Acknowledge("s", 2)
			r.Publish(3, touch("a"))
			if took := await(t, r, 3); took != c.want {
				t.Errorf("%s, then %s: in force after %s, want %s", c.before, c.since, took, c.want)
			}
			r.Close("s")
			if n := len(r.byAgent); n != 0 {
				t.Errorf("%s, then %s: it is past its bound, and not forgotten", c.before, c.since)
			}
		})
	}
}

// P2: an earlier answer counts to its end, when a later one has another bound.
func TestLongestOfAllAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		for i, named := range []time.Duration{time.Minute, 0} {
			r.Publish(int64(i)+1, []Touched{{Agent: "a", Bound: named}})
			holding(t, r, "s", "a")
		}
		r.Publish(3, touch("a"))
		if took := await(t, r, 3); took != Outlast(time.Minute) {
			t.Errorf("in force after %s, want %s", took, Outlast(time.Minute))
		}
	})
}

// What is granted names the bounds of the set that is held.
func TestGranted(t *testing.T) {
	r := New(Config{Bound: bound})
	r.Publish(1, []Touched{{Agent: "a", Bound: time.Minute}, {Agent: "b", Bound: time.Second}})
	r.Publish(2, []Touched{{Agent: "b"}})
	for agent, want := range map[string]Freshness{
		"a": {Held: 2, Bound: bound, Longest: time.Minute}, "b": {Held: 2, Bound: bound}, "c": {Held: 2, Bound: bound},
	} {
		if err := r.Open(stream(agent, agent)); err != nil {
			t.Fatal(err)
		}
		r.Acknowledge(agent, 2)
		if got, err := r.Grant(t.Context(), ask(agent, agent, 2)); got != want || err != nil {
			t.Errorf("%s: granted %+v, %v; want %+v", agent, got, err, want)
		}
	}
}

// P2: only who has seen a sidecar on a later stream can settle it, and an earlier
// stream is not opened after a later one.
func TestLaterStream(t *testing.T) {
	for _, c := range []struct {
		seen    int64
		settles bool
	}{{0, false}, {6, false}, {7, false}, {8, true}} {
		synctest.Test(t, func(t *testing.T) {
			r := New(Config{Bound: bound})
			r.Publish(1, touch("a"))
			s := stream("s", "a")
			s.Ordinal = 7
			if err := r.Open(s); err != nil {
				t.Fatal(err)
			}
			r.Acknowledge("s", 1)
			if _, err := r.Grant(t.Context(), ask("s", "a", 1)); err != nil {
				t.Fatal(err)
			}
			r.Publish(2, touch("a"))
			start := time.Now()
			questions := make(chan Question, 1)
			questions <- Question{Held: []Sighting{{Holder: Holder{Agent: s.Agent, Instance: s.Instance, Key: s.Key}, Ordinal: c.seen}}}
			close(questions)
			if err := r.AwaitHere(t.Context(), 2, questions, func(Answer) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); c.settles != (took == 0) {
				t.Errorf("seen on stream %d: in force after %s", c.seen, took)
			}
			s.ID, s.Ordinal = "earlier", 6
			if err := r.Open(s); !errors.Is(err, ErrSuperseded) {
				t.Errorf("an earlier stream after a later one: %v", err)
			}
		})
	}
}

// P2: whoever is asked after is answered for again when it has come on a later
// stream: the first answer may not have counted.
func TestAnsweredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("a"))
		s := stream("s", "a")
		questions := make(chan Question)
		var seen []int64
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_ = r.AwaitHere(ctx, 1, questions, func(a Answer) error {
				for _, h := range a.Held {
					seen = append(seen, h.Ordinal)
				}
				return nil
			})
		})
		questions <- Question{Elsewhere: []Holder{{Agent: s.Agent, Instance: s.Instance, Key: s.Key}}}
		for _, ordinal := range []int64{3, 5} {
			s.ID, s.Ordinal = fmt.Sprint(ordinal), ordinal
			if err := r.Open(s); err != nil {
				t.Fatal(err)
			}
			r.Acknowledge(s.ID, 1)
			synctest.Wait()
		}
		cancel()
		waiting.Wait()
		if !slices.Equal(seen, []int64{3, 5}) {
			t.Errorf("answered for streams %v", seen)
		}
	})
}
