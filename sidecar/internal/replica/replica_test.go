package replica

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A machine has clocks, and the test can have it sleep, set its wall clock, and
// hold up whoever reads that.
type machine struct {
	start       time.Time
	asleep, set atomic.Int64
	pauses      []pause // for the next readings of the wall clock, one each
}

type pause struct{ before, after time.Duration }

func newMachine() *machine { return &machine{start: time.Now()} }

func (m *machine) clock() time.Duration {
	return time.Hour + time.Since(m.start) + time.Duration(m.asleep.Load())
}

func now(r *Replica) time.Time {
	at, _ := r.View().At()
	return at.Now
}

// wall is the time of day: a machine that sleeps loses none of it.
func (m *machine) wall() time.Time {
	var held pause
	if len(m.pauses) > 0 {
		held, m.pauses = m.pauses[0], m.pauses[1:]
	}
	time.Sleep(held.before)
	now := time.Now().Round(0).Add(time.Duration(m.asleep.Load() + m.set.Load()))
	time.Sleep(held.after)
	return now
}

func (m *machine) replica() *Replica { return newReplica(m.clock, m.wall) }

func at(revision int64) *grant.Snapshot { return grant.Empty().Apply(revision, nil, nil) }

// The zero of everything denies.
func TestNew(t *testing.T) {
	v := New(newMachine().clock).View()
	if v.Live() || v.Snapshot.Agent() != nil || v.FreshFor() != 0 {
		t.Error("a new replica is live")
	}
}

// P2: a view is live for one bound from when the answered request was made, to
// the nanosecond, and time asleep counts.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		sent := m.clock()
		time.Sleep(3 * time.Second)
		r.Extend(sent, 10*time.Second, 0, time.Now())
		v := r.View()
		time.Sleep(7*time.Second - time.Nanosecond)
		if !v.Live() {
			t.Error("stale before its time")
		}
		time.Sleep(time.Nanosecond)
		if v.Live() || r.View().Live() {
			t.Error("live after its time")
		}
		r.Extend(m.clock(), 10*time.Second, 0, time.Now())
		m.asleep.Store(int64(10 * time.Second))
		if r.View().Live() {
			t.Error("time asleep does not count")
		}
		r.Extend(m.clock()-11*time.Second, 10*time.Second, 0, time.Now())
		if r.View().Live() {
			t.Error("an answer that came too late made it live")
		}
	})
}

// P2: what was published is enforced, and what it took away is cut, before
// Publish returns.
func TestPublish(t *testing.T) {
	r := New(newMachine().clock)
	var cut []int64
	r.OnCut(func(v *View) {
		if r.View() != v {
			t.Error("cut by a view that is not in force yet")
		}
		cut = append(cut, v.Snapshot.Revision())
	})
	for _, revision := range []int64{3, 3, 5} {
		if err := r.Publish(at(revision)); err != nil {
			t.Fatal(err)
		}
	}
	if len(cut) != 3 || cut[2] != 5 {
		t.Errorf("cut at %v", cut)
	}
	if err := r.Publish(at(4)); err == nil || r.View().Snapshot.Revision() != 5 {
		t.Error("published backwards")
	}
	r.Forget()
	if len(cut) != 4 || cut[3] != 0 {
		t.Errorf("forgotten without a cut: %v", cut)
	}
	if err := r.Publish(at(1)); err != nil {
		t.Errorf("after everything was forgotten: %v", err)
	}
}

// P8: freshness is extended while what was taken away is still being cut.
func TestExtendWhileCutting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		r.OnCut(func(*View) { time.Sleep(time.Minute) })
		time.AfterFunc(time.Second, func() { r.Extend(m.clock(), time.Hour, 0, time.Now()) })
		if err := r.Publish(at(1)); err != nil {
			t.Fatal(err)
		}
		if v := r.View(); !v.Live() || v.Snapshot.Revision() != 1 {
			t.Error("the extension was lost")
		}
	})
}

// After a lapse, answers to requests made before it do not count.
func TestLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		r.Extend(m.clock(), time.Minute, 0, time.Now())
		sent := m.clock()
		r.Lapse()
		r.Extend(sent, time.Minute, 0, time.Now())
		if r.View().Live() {
			t.Error("made live by an answer to a request made before it lapsed")
		}
		time.Sleep(time.Nanosecond)
		r.Extend(m.clock(), time.Minute, 0, time.Now())
		if !r.View().Live() {
			t.Error("never live again")
		}
	})
}

// What is open is cut when freshness ends, each time, and soon after a sleep.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		cut := make(chan time.Time, 10)
		r.OnCut(func(v *View) {
			if v.Live() {
				t.Error("cut while live")
			}
			cut <- time.Now()
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = r.Run(ctx) })
		for range 2 {
			r.Extend(m.clock(), 10*time.Second, 0, time.Now())
			time.Sleep(5 * time.Second)
			start := time.Now()
			r.Extend(m.clock(), 10*time.Second, 0, time.Now())
			if took := (<-cut).Sub(start); took != 10*time.Second {
				t.Errorf("cut after %s", took)
			}
		}
		r.Extend(m.clock(), 10*time.Second, 0, time.Now())
		time.Sleep(time.Second)
		m.asleep.Store(int64(time.Hour))
		start := time.Now()
		if took := (<-cut).Sub(start); took > checkEvery {
			t.Errorf("cut %s after waking up", took)
		}
		cancel()
		running.Wait()
		if len(cut) > 0 {
			t.Error("cut more often than fresh")
		}
	})
}

// P6: a clock set back revives nothing.
func TestNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		if got := now(r); !got.Equal(time.Now()) {
			t.Errorf("now is %s before any answer", got)
		}
		ahead := time.Now().Add(time.Hour)
		r.Extend(m.clock(), time.Minute, 0, ahead)
		time.Sleep(time.Second)
		if got, want := now(r), ahead.Add(time.Second); !got.Equal(want) {
			t.Errorf("now is %s, want the control plane's %s", got, want)
		}
		r.Extend(m.clock(), time.Minute, 0, time.Now().Add(-time.Hour))
		if got, want := now(r), ahead.Add(time.Second); !got.Equal(want) {
			t.Errorf("now is %s, want %s: a lower clock lowers nothing", got, want)
		}
	})
}

func TestBootClock(t *testing.T) {
	clock, err := BootClock()
	if err != nil {
		t.Fatal(err)
	}
	if a, b := clock(), clock(); a <= 0 || b < a {
		t.Errorf("clock went from %s to %s", a, b)
	}
}

func BenchmarkView(b *testing.B) {
	clock, err := BootClock()
	if err != nil {
		b.Fatal(err)
	}
	r := New(clock)
	for b.Loop() {
		if r.View().Live() {
			b.Fatal("live")
		}
	}
}
