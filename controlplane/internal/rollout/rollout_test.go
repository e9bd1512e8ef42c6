package rollout

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bound = 10 * time.Second

var lasts = Outlast(bound)

func stream(id, agent string) Stream {
	return Stream{ID: id, Agent: agent, Instance: "instance of " + agent, Key: Key{1}}
}

func ask(id, agent string, revision int64) Renewal {
	return Renewal{Stream: id, Agent: agent, Key: Key{1}, Revision: revision}
}

// touch is a change of the agents' sets, which name no bound.
func touch(agents ...string) []Touched {
	var all []Touched
	for _, agent := range agents {
		all = append(all, Touched{Agent: agent})
	}
	return all
}

// holding opens a stream that holds all that was applied and is fresh.
func holding(t *testing.T, r *Rollout, id, agent string) {
	t.Helper()
	if err := r.Open(stream(id, agent)); err != nil {
		t.Fatal(err)
	}
	r.Acknowledge(id, r.Applied())
	if _, err := r.Grant(t.Context(), ask(id, agent, r.Applied())); err != nil {
		t.Fatal(err)
	}
}

// await returns after how long the revision was in force.
func await(t *testing.T, r *Rollout, revision int64) time.Duration {
	t.Helper()
	start := time.Now()
	if err := r.Await(t.Context(), revision, nil); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

func TestBrandNewStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, nil)
		if took := await(t, r, 1); took != 0 {
			t.Errorf("in force after %s, with nobody there", took)
		}
	})
}

// A revision is not in force before this process has applied it: until then it
// does not know whom it concerns.
func TestNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, nil)
		time.AfterFunc(time.Minute, func() { r.Publish(2, nil) })
		if took := await(t, r, 2); took != time.Minute {
			t.Errorf("in force after %s, want when it was applied", took)
		}
	})
}

// P2: after a revision was declared in force, nobody is granted freshness on
// less, even if he asked, and the store was read, before.
func TestNoFreshnessBelowWhatIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("a"))
		holding(t, r, "s", "a")
		time.Sleep(lasts)
		late := ask("s", "a", 1) // the store was at 1
		r.Publish(2, touch("a"))
		if took := await(t, r, 2); took != 0 {
			t.Fatalf("in force after %s, with nobody fresh", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Grant(ctx, late); !errors.Is(err, ErrNotHolding) {
			t.Errorf("granted below what is in force: %v", err)
		}
	})
}

// Whatever an agent's sidecars do, what is remembered of them is bounded, and
// forgotten once no bound makes it fresh.
func TestInstancesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("a"))
		come := func(i int) error {
			id := fmt.Sprint(i)
			if err := r.Open(Stream{ID: id, Agent: "a", Instance: id, Key: Key{1}}); err != nil {
				return err
			}
			r.Acknowledge(id, 1)
			_, err := r.Grant(t.Context(), ask(id, "a", 1))
			r.Close(id)
			return err
		}
		for i := range maxInstances {
			if err := come(i); err != nil {
				t.Fatal(err)
			}
		}
		if err := come(maxInstances); !errors.Is(err, ErrInstances) {
			t.Errorf("one more: %v", err)
		}
		if err := come(0); err != nil {
			t.Errorf("one that is known: %v", err)
		}
		time.Sleep(Outlast(MaxBound))
		if err := come(maxInstances); err != nil {
			t.Errorf("once the others are forgotten: %v", err)
		}
	})
}

// A sidecar that comes back must show anew what it holds before it is granted
// anything, and may meanwhile be fresh on what it held.
func TestComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("a"))
		holding(t, r, "one", "a")
		r.Close("one")
		if err := r.Open(stream("two", "a")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Grant(ctx, ask("two", "a", 1)); !errors.Is(err, ErrNotHolding) {
			t.Errorf("granted before it acknowledged anything: %v", err)
		}
		r.Publish(2, nil)
		if took := await(t, r, 2); took != 0 {
			t.Errorf("waited %s for a sidecar that held all of its own", took)
		}
		r.Publish(3, touch("a"))
		if took := await(t, r, 3); took != lasts-time.Second {
			t.Errorf("in force after %s, want %s", took, lasts-time.Second)
		}
	})
}

// Progress names who is waited for and says how long it can take.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("a", "b", "c", "d"))
		for _, agent := range []string{"a", "b", "c", "d"} {
			holding(t, r, "stream of "+agent, agent)
		}
		r.Publish(2, touch("a", "b", "c"))
		r.Close("stream of b")
		r.Refuse("stream of c", []*adminv1.Refusal{{Name: "g", Revision: 2}})
		var first, last *adminv1.AwaitRevisionResponse
		err := r.Await(t.Context(), 2, func(p *adminv1.AwaitRevisionResponse) error {
			if first == nil {
				first = p
			}
			last = p
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if first.GetApplied() != 1 || first.GetPending() != 1 || first.GetCutOff() != 1 || first.GetRefused() != 1 ||
			first.GetSafeIn().AsDuration() != lasts || len(first.GetStragglers()) != 3 || first.GetInForce() {
			t.Errorf("first progress %v", first)
		}
		// Whoever was waited out was cut off by its bound, and is counted to the end.
		if !last.GetInForce() || last.GetApplied() != 1 || last.GetCutOff() != 3 || last.GetPending()+last.GetRefused() != 0 {
			t.Errorf("last progress %v", last)
		}
		r.Publish(3, touch("d"))
		holding(t, r, "another", "e")
		stop := errors.New("stop")
		r.Publish(4, touch("e"))
		if err := r.Await(t.Context(), 4, func(*adminv1.AwaitRevisionResponse) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("await: %v, want the error of progress", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Await(ctx, 4, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("await: %v, want it to end with the context", err)
		}
		if n := len(r.waiters); n != 0 {
			t.Errorf("%d waiters are left", n)
		}
	})
}

// TestNeverTooEarly plays a fleet and holds each verdict against what the
// sidecars could really do: when a revision is in force, no sidecar that is fresh
// by its own clock, which may run 0.2 % slow, lacks a change up to it (P2).
func TestNeverTooEarly(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	for i := range uint64(*histories) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(first+i, 0))
			f := &fleet{t: t, r: New(Config{Bound: bound}), changes: make(map[string][]change)}
			for _, agent := range [][]string{{"a", "a"}, {"a", "b"}}[random.IntN(2)] {
				f.sidecars = append(f.sidecars, &truth{agent: agent})
			}
			f.do(step{})
			for range 100 {
				f.do(step{random.IntN(11), random.IntN(2), random.IntN(12000)})
				if wrong := f.wrong(); wrong != "" {
					t.Error(wrong)
					return
				}
			}
		})
		if t.Failed() {
			t.Fatalf("again with -run TestNeverTooEarly -seed %d -histories 1", first+i)
		}
	}
}

var (
	histories = flag.Int("histories", 500, "how many random histories are played")
	seed      = flag.Uint64("seed", 0, "the history to begin with; 0 is a random one")
)

type step struct{ what, sidecar, x int }

type fleet struct {
	t        *testing.T
	r        *Rollout
	sidecars []*truth
	revision int64
	changes  map[string][]change // by agent
	streams  int
	inForce  int64 // the newest revision that was ever in force
}

// A change of an agent's set, and the bound that the new one names.
type change struct {
	revision int64
	bound    time.Duration
}

// A truth is what a sidecar really holds, when it was last let act, and the
// longest bound that the answer named.
type truth struct {
	agent, stream string
	held          int64
	granted       time.Time
	longest       time.Duration
}

// named is the longest bound of what a sidecar holds.
func (f *fleet) named(s *truth) (named time.Duration) {
	for _, c := range f.changes[s.agent] {
		if c.revision <= s.held {
			named = c.bound
		}
	}
	return named
}

// freshUntil is until when a sidecar acts on what it holds.
func (f *fleet) freshUntil(s *truth) time.Time {
	if s.granted.IsZero() {
		return s.granted
	}
	lasts := min(max(bound, f.named(s)), max(bound, s.longest))
	return s.granted.Add(lasts + lasts/500)
}

func (f *fleet) do(what step) {
	s := f.sidecars[what.sidecar]
	switch what.what {
	case 0: // a change
		f.revision++
		named := []time.Duration{0, 0, bound / 2, bound * 3, MaxBound}[what.x/4%5]
		var concerned []Touched
		for _, agent := range [][]string{nil, {"a"}, {"b"}, {"a", "b"}}[what.x%4] {
			f.changes[agent] = append(f.changes[agent], change{f.revision, named})
			concerned = append(concerned, Touched{agent, named})
		}
		f.r.Publish(f.revision, concerned)
	case 1: // a new stream
		f.streams++
		s.stream = fmt.Sprint("stream ", f.streams)
		if err := f.r.Open(Stream{ID: s.stream, Agent: s.agent, Instance: fmt.Sprint(what.sidecar)}); err != nil {
			f.t.Fatal(err)
		}
	case 2: // a lost stream
		f.r.Close(s.stream)
		s.stream = ""
	case 3: // an acknowledgement
		if s.stream != "" {
			s.held = f.revision // enforced before it is acknowledged
			f.r.Acknowledge(s.stream, s.held)
		}
	case 4: // a renewal, of a store that was read a while ago
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Millisecond)
		defer cancel()
		ask := Renewal{Stream: s.stream, Agent: s.agent, Revision: 1 + int64(what.x)%f.revision}
		if got, err := f.r.Grant(ctx, ask); err == nil {
			s.granted, s.longest = time.Now(), got.Longest
		}
	case 5: // all of it
		if s.stream == "" {
			f.do(step{1, what.sidecar, what.x})
		}
		f.do(step{3, what.sidecar, what.x})
		f.do(step{4, what.sidecar, what.x})
	case 6: // the last moment that it acts
		time.Sleep(max(1, time.Until(f.freshUntil(s))) - 1)
	case 7: // a set whose acknowledgement is lost, from here or elsewhere
		s.held = f.revision
	case 8: // let act elsewhere, it comes a while after
		s.held, s.granted = f.revision, time.Now()
		s.longest = f.named(s)
		f.streams++
		s.stream = fmt.Sprint("stream ", f.streams)
		time.Sleep(time.Duration(what.x) * time.Millisecond)
		left := max(bound, s.longest) - time.Since(s.granted)*500/501 // on its slow clock
		if err := f.r.Open(Stream{ID: s.stream, Agent: s.agent, Instance: fmt.Sprint(what.sidecar), FreshFor: left}); err != nil {
			f.t.Fatal(err)
		}
	default:
		time.Sleep(time.Duration(what.x) * time.Millisecond)
	}
}

// wrong says what is in force and should not be; or nothing.
func (f *fleet) wrong() string {
	ctx, cancel := context.WithCancel(f.t.Context())
	cancel()
	for f.inForce < f.revision && f.r.Await(ctx, f.inForce+1, nil) == nil {
		f.inForce++
	}
	for i, s := range f.sidecars {
		for _, c := range f.changes[s.agent] {
			if time.Now().Before(f.freshUntil(s)) && s.held < c.revision && c.revision <= f.inForce {
				return fmt.Sprintf("%d was in force, and sidecar %d acts on %d, without the change of %d", f.inForce, i, s.held, c.revision)
			}
		}
	}
	return ""
}
