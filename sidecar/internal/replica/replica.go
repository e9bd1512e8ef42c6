// Package replica holds what this sidecar may act on and until when it may. The
// subscriber writes; every call reads, without a lock.
package replica

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

// A Clock tells how long the machine has been up, the time it slept included.
// Freshness is counted on it alone. Safe for concurrent use.
type Clock func() time.Duration

// checkEvery is how often a live replica looks at the boot clock: timers stand
// still while the machine sleeps, the boot clock does not.
const checkEvery = 250 * time.Millisecond

// A View is what may be acted on at one moment. It is immutable; whether it is
// live is asked of the clock each time.
type View struct {
	// Snapshot is what the agent holds. Never nil.
	Snapshot *grant.Snapshot

	clock Clock
	// until is when freshness ends, on clock; 0 before any was granted.
	until time.Duration
	// told is the control plane's clock in its last answer, which came at
	// toldAt on clock; zero before any.
	told   time.Time
	toldAt time.Duration
}

// Live reports whether the view may be acted on.
func (v *View) Live() bool { return v.FreshFor() > 0 }

// FreshFor returns how long the view may still be acted on if nothing more is
// heard; 0 if it may not.
func (v *View) FreshFor() time.Duration {
	return max(0, v.until-v.clock())
}

// Now returns the instant to hold expiries against: this machine's clock, but
// never less than the control plane's at its last answer plus the time since,
// so that a clock set back revives nothing.
func (v *View) Now() time.Time {
	now := time.Now()
	if v.told.IsZero() {
		return now
	}
	if floor := v.told.Add(v.clock() - v.toldAt); floor.After(now) {
		return floor
	}
	return now
}

// A Replica is the view of one sidecar. Create it with [New]. View is safe for
// concurrent use with everything; the methods that change the view exclude each
// other.
type Replica struct {
	clock Clock
	view  atomic.Pointer[View]
	// extended tells Run that the replica may be live again.
	extended chan struct{}
	// cut is set before Run and before the first Publish.
	cut func(*View)

	// cutting is held by whoever takes authority away, until cut has returned.
	// It is taken before mu.
	cutting sync.Mutex
	// mu is held by whoever changes the view, and not while cut runs: freshness
	// can be extended meanwhile.
	mu sync.Mutex
	// lapsedAt is when freshness was last ended, on clock; 0 if never. No request
	// made by then extends it. Guarded by mu.
	lapsedAt time.Duration
}

// New returns a replica that holds nothing and is not live.
func New(clock Clock) *Replica {
	r := &Replica{clock: clock, extended: make(chan struct{}, 1), cut: func(*View) {}}
	r.view.Store(&View{Snapshot: grant.Empty(), clock: clock})
	return r
}

// OnCut has cut called whenever the view may have lost authority: after each
// Publish and Forget took effect and before they return, and when freshness
// ends. When cut returns, nothing that the view no longer allows may go on. It
// must not call back into the replica, View excepted. To be called before Run
// and before the replica is written to; calls are never concurrent.
func (r *Replica) OnCut(cut func(*View)) { r.cut = cut }

// View returns the newest view.
func (r *Replica) View() *View { return r.view.Load() }

// Publish makes s what may be acted on, for as long as freshness lasts. When it
// returns, calls that s does not allow have been cut. It refuses a snapshot of
// an older revision than the one that is held.
func (r *Replica) Publish(s *grant.Snapshot) error {
	return r.take(func(next *View) error {
		if held := next.Snapshot.Revision(); s.Revision() < held {
			return fmt.Errorf("publish revision %d: %d is held", s.Revision(), held)
		}
		next.Snapshot = s
		return nil
	})
}

// take changes the view and cuts what the new one does not allow.
func (r *Replica) take(change func(next *View) error) error {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	r.mu.Lock()
	next := *r.view.Load()
	err := change(&next)
	if err == nil {
		r.view.Store(&next)
	}
	r.mu.Unlock()
	if err == nil {
		r.cut(&next)
	}
	return err
}

// Extend makes the replica live until bound after sentAt on its clock, the
// moment at which the answered request was made. now is the control plane's
// clock in the answer. If the replica has lapsed since sentAt, it stays so.
func (r *Replica) Extend(sentAt, bound time.Duration, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lapsedAt > 0 && sentAt <= r.lapsedAt {
		return
	}
	next := *r.view.Load()
	next.until = sentAt + bound
	next.told, next.toldAt = now, r.clock()
	r.view.Store(&next)
	select {
	case r.extended <- struct{}{}:
	default:
	}
}

// Lapse ends freshness at once, and answers that are under way do not bring it
// back. When it returns, open calls have been cut.
func (r *Replica) Lapse() {
	_ = r.take(func(next *View) error {
		next.until, r.lapsedAt = 0, r.clock()
		return nil
	})
}

// Forget drops everything that is held, freshness included, so that a snapshot
// of any revision can be published. When it returns, open calls have been cut.
func (r *Replica) Forget() {
	_ = r.take(func(next *View) error {
		next.until, next.Snapshot, r.lapsedAt = 0, grant.Empty(), r.clock()
		return nil
	})
}

// Run cuts open calls whenever freshness ends. It returns when ctx does, with
// nil: what is open then is the caller's to end.
func (r *Replica) Run(ctx context.Context) error {
	for {
		// Not live: nothing can lapse before it is extended.
		select {
		case <-ctx.Done():
			return nil
		case <-r.extended:
		}
		for left := r.View().FreshFor(); left > 0; left = r.View().FreshFor() {
			select {
			case <-ctx.Done():
				return nil
			case <-r.extended:
			case <-time.After(min(left, checkEvery)):
			}
		}
		r.cutting.Lock()
		if v := r.view.Load(); !v.Live() {
			r.cut(v)
		}
		r.cutting.Unlock()
	}
}
