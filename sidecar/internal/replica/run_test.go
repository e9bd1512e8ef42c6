package replica

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// P2: however late whoever watches over the bounds comes to look, what is open is
// cut.
func TestCutHoweverLate(t *testing.T) {
	for name, c := range map[string]struct {
		answered time.Duration // how long the answer took
		change   time.Duration // when another snapshot is published, if it is
		held     time.Duration // for how long the watch is held up after each look
	}{
		"the bound passes between two looks": {change: 10*time.Second - time.Millisecond, held: 2 * time.Millisecond},
		"the answer is older than its bound": {answered: 12 * time.Second},
		"every look is late":                 {held: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				var held atomic.Int64
				r := newReplica(func() time.Duration {
					now := m.clock()
					time.Sleep(time.Duration(held.Load()))
					return now
				}, m.wall)
				var cuts []time.Duration
				r.OnCut(func(v *View) {
					if !v.Live() {
						cuts = append(cuts, m.clock())
					}
				})
				r.Extend(m.clock(), time.Hour, 0, time.Now())
				stop := m.run(t, r)
				time.Sleep(time.Second)
				asked := m.clock()
				time.Sleep(c.answered)
				r.Extend(asked, 10*time.Second, 0, time.Now())
				held.Store(int64(c.held))
				if c.change > 0 {
					time.Sleep(c.change)
					_ = r.Publish(at(1))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if len(cuts) == 0 {
					t.Fatal("never cut")
				}
				if late := cuts[0] - asked - max(10*time.Second, c.answered); late < 0 || late > 5*c.held {
					t.Errorf("cut %s late", late)
				}
				stop()
			})
		})
	}
}
