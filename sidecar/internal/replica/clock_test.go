package replica

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// P2: a wall clock that went on by another time than the boot clock since the
// last answer is a new boot: nothing is live any more, for good.
func TestJump(t *testing.T) {
	for name, jump := range map[string]struct {
		wall, boot time.Duration
		want       bool
	}{
		"set forward":       {time.Second + 4*time.Millisecond + 1, 0, true},
		"set back":          {-time.Second - 4*time.Millisecond - 1, 0, true},
		"set far back":      {-time.Hour, 0, true},
		"boot clock jumped": {0, 1100 * time.Millisecond, true},
		"boot clock back":   {0, -3 * time.Second, true},
		"a leap second":     {-time.Second, 0, false},
		"about to jump":     {time.Second + 4*time.Millisecond, 0, false},
		"about to jump off": {-time.Second - 4*time.Millisecond, 0, false},
		"asleep":            {5 * time.Second, 5 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				r := m.replica()
				_ = r.Publish(bounded(t, 1, 0))
				r.Extend(m.clock(), 10*time.Second, 0, time.Now())
				time.Sleep(2 * time.Second)
				m.set.Add(int64(jump.wall - jump.boot))
				m.asleep.Add(int64(jump.boot))
				if live := r.View().Live(); live == jump.want {
					t.Fatalf("live: %t", live)
				}
				if !jump.want {
					return
				}
				m.set.Store(0)
				m.asleep.Store(0)
				time.Sleep(time.Second)
				r.Extend(m.clock(), 10*time.Second, 0, time.Now())
				if r.View().Live() || r.View().FreshFor() != 0 || allowed(t, r, 1) != "-" {
					t.Error("live again")
				}
			})
		})
	}
}

// P2: a jump that no decision sees is found soon; then everything has been cut,
// and the replica has ended.
func TestJumpEndsRun(t *testing.T) {
	for _, heard := range []time.Duration{time.Second, time.Hour} { // fresh, and long stale
		synctest.Test(t, func(t *testing.T) {
			m := newMachine()
			r := m.replica()
			r.Extend(m.clock(), 10*time.Second, 0, time.Now())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(context.Background()) }()
			time.Sleep(heard)
			synctest.Wait()
			var cut int
			r.OnCut(func(v *View) {
				if v.Live() {
					t.Error("cut while live")
				}
				cut++
			})
			m.set.Store(int64(-time.Hour))
			at := time.Now()
			if err := <-ended; !errors.Is(err, ErrNewBoot) {
				t.Errorf("ended with %v", err)
			}
			if took := time.Since(at); took > checkEvery || cut == 0 {
				t.Errorf("ended after %s, having cut %d times", took, cut)
			}
		})
	}
}

// P2: a jump is found though the answer that comes after it would hide it.
func TestJumpBeforeAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		_ = r.Publish(bounded(t, 1, 0))
		r.Extend(m.clock(), 10*time.Second, 0, time.Now())
		time.Sleep(time.Second)
		m.set.Store(int64(time.Hour))
		r.Extend(m.clock(), 10*time.Second, 0, time.Now())
		if r.View().Live() {
			t.Error("live")
		}
	})
}

// A clock that is slewed, or that drifts, is none that jumped, and neither is one
// that was wrong all the time.
func TestSlewIsNoJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.set.Store(int64(-1000 * time.Hour))
		r := m.replica()
		_ = r.Publish(bounded(t, 1, 15*time.Minute))
		stop := m.run(t, r)
		r.Extend(m.clock(), 10*time.Second, 15*time.Minute, time.Now())
		for range 14 * 60 {
			time.Sleep(time.Second)
			m.set.Add(int64(2 * time.Millisecond)) // 0.2 %
			if !r.View().Live() {
				t.Fatal("not live")
			}
		}
		stop()
	})
}

// Whoever is held up between two readings of clocks has not seen one jump.
func TestHeldUpIsNoJump(t *testing.T) {
	const long = 20 * time.Second
	for name, pauses := range map[string][]pause{
		"after the wall clock":  {{after: long}},
		"before the wall clock": {{before: long}},
		"twice":                 {{after: long}, {before: long}},
		"twice after":           {{after: long}, {after: long}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				r := m.replica()
				_ = r.Publish(bounded(t, 1, 0))
				m.pauses = pauses
				r.Extend(m.clock(), 10*time.Second, 0, time.Now())
				m.pauses = nil
				r.Extend(m.clock(), 10*time.Second, 0, time.Now())
				if !r.View().Live() {
					t.Error("an answer made stale")
				}
				m.pauses = pauses
				if r.View().Live() {
					t.Error("live 20 s after the answer")
				}
				r.Extend(m.clock(), 10*time.Second, 0, time.Now())
				if !r.View().Live() {
					t.Error("taken for a jump")
				}
			})
		})
	}
}

// P2: a boot clock that says once that it is before the request is not believed.
func TestBootClockGlitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		var glitch bool
		r := newReplica(func() time.Duration {
			if glitch {
				glitch = false
				return 0
			}
			return m.clock()
		}, m.wall)
		r.Extend(m.clock(), 10*time.Second, 0, time.Now())
		glitch = true
		if at, live := r.View().At(); live {
			t.Errorf("live at age %s", at.Age)
		}
		if !r.View().Live() {
			t.Error("taken for a jump")
		}
	})
}

// P2: what was read before this process was held up is not what is decided for:
// the age is that of the last reading.
func TestAgeAfterHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		r.Extend(m.clock(), 10*time.Second, 0, time.Now())
		m.pauses = []pause{{after: 10 * time.Second}}
		if at, live := r.View().At(); live {
			t.Errorf("live at age %s", at.Age)
		}
	})
}
