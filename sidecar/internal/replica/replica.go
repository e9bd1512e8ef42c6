// Package replica holds what this sidecar may act on and until when it may. The
// subscriber writes; every call reads, without a lock.
package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

// checkEvery is how often the clocks are looked at: timers stand still while the
// machine sleeps, the boot clock does not.
const checkEvery = 250 * time.Millisecond

// ErrNewBoot is what Run ends with when the machine's clocks do not belong
// together any more. Nothing that was begun under the old ones may go on: not
// this replica, nor the numbering of records.
var ErrNewBoot = errors.New("wall clock and boot clock disagree, as after a clock was set or a machine was copied")

// A Replica is the view of one sidecar. Create it with [New]. View is safe for
// concurrent use with everything; the methods that change the view exclude each
// other.
type Replica struct {
	clocks *clocks
	view   atomic.Pointer[View]
	// changed tells Run that there is another view.
	changed chan struct{}
	// cut is set before Run and before the first Publish.
	cut func(*View)
	// claimant is set before the first Publish.
	claimant string

	// cutting is held by whoever takes authority away, until cut has returned.
	// It is taken before mu.
	cutting sync.Mutex
	// mu is held by whoever changes the view, and not while cut runs: freshness
	// can be extended meanwhile.
	mu sync.Mutex
	// lapsedAt is when freshness was last ended, on the boot clock; 0 if never. No
	// request made by then extends it. Guarded by mu.
	lapsedAt time.Duration
}

// New returns a replica that holds nothing and is not live.
func New(boot Clock) *Replica { return newReplica(boot, wallClock) }

func newReplica(boot Clock, wall func() time.Time) *Replica {
	r := &Replica{
		clocks:  &clocks{boot: boot, wall: wall, jumped: make(chan struct{})},
		changed: make(chan struct{}, 1), cut: func(*View) {},
	}
	r.view.Store(&View{Snapshot: grant.Empty(), clocks: r.clocks, replaced: make(chan struct{})})
	return r
}

// OnCut has cut called whenever the view may have lost authority: after each
// Publish and Forget took effect and before they return, and when a bound
// passes, that of the last answer or one that a grant held names. When cut
// returns, nothing that the view no longer allows may go on. It must not call
// back into the replica, View excepted. To be called before Run and before the
// replica is written to; calls are never concurrent.
func (r *Replica) OnCut(cut func(*View)) { r.cut = cut }

// ClaimsAs says by what name this sidecar claims sessions: "sha256:" and the
// digest of its enrolled key. Without it no session is its own. To be called
// before the replica is written to.
func (r *Replica) ClaimsAs(claimant string) { r.claimant = claimant }

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
		next.Snapshot = s.As(r.claimant)
		next.shrink()
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
		r.store(&next)
	}
	r.mu.Unlock()
	if err == nil {
		r.cut(&next)
	}
	return err
}

// store makes v the view. The caller holds mu.
func (r *Replica) store(v *View) {
	v.replaced = make(chan struct{})
	close(r.view.Swap(v).replaced)
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Extend takes note of an answer to the request that was made at sentAt on the
// boot clock: what is held may be acted on for bound after that, or for the bound
// that a grant names, but for no more than bound and longest. now is the control
// plane's clock in the answer.
//
// longest is the longest bound named by what was held when the request was
// granted; 0 if none was. Whoever granted it counts on that. A grant that comes
// later and names a longer one waits for the next answer, also if one that named
// as much was held before and is gone: control planes stop counting on a bound
// when nobody holds a grant that names it.
//
// An answer to a request made before the replica last lapsed, or before another
// one that was answered, extends nothing.
func (r *Replica) Extend(sentAt, bound, longest time.Duration, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := *r.view.Load()
	m := r.clocks.mark()
	if !next.answered.wall.IsZero() && !r.clocks.agree(next.answered, m.wall, m.boot) {
		return
	}
	if now.After(next.now(time.Time{}, m.boot)) {
		next.floor, next.floorAt = now, m.boot
	}
	if sentAt <= m.boot && (r.lapsedAt == 0 || sentAt > r.lapsedAt) && (!next.heard || sentAt > next.asked) {
		next.heard, next.asked, next.answered = true, sentAt, m
		next.bound, next.longest = bound, max(bound, longest)
		next.shrink()
	}
	r.store(&next)
}

// shrink has the last answer be good for no more than what is held.
func (v *View) shrink() {
	v.longest = min(v.longest, max(v.bound, v.Snapshot.LongestBound()))
}

// Lapse ends freshness at once, and answers that are under way do not bring it
// back. When it returns, open calls have been cut.
func (r *Replica) Lapse() {
	_ = r.take(func(next *View) error {
		next.heard, r.lapsedAt = false, r.clocks.boot()
		return nil
	})
}

// Forget drops everything that is held, freshness included, so that a snapshot
// of any revision can be published. When it returns, open calls have been cut.
func (r *Replica) Forget() {
	_ = r.take(func(next *View) error {
		next.heard, next.Snapshot, r.lapsedAt = false, grant.Empty(), r.clocks.boot()
		return nil
	})
}

// Run cuts open calls whenever a bound passes. It returns nil when ctx ends: what
// is open then is the caller's to end. When the machine's clocks disagree it cuts
// everything and returns ErrNewBoot; the replica is never live again.
func (r *Replica) Run(ctx context.Context) error {
	v, boot := r.View(), r.clocks.boot()
	for {
		v.Live() // finds out whether the clocks agree
		wait := checkEvery
		if due := v.due(boot); due > 0 {
			wait = min(wait, due-boot)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.clocks.jumped:
			r.recut()
			return ErrNewBoot
		case <-r.changed:
		case <-time.After(wait):
		}
		was, since := v, boot
		v, boot = r.View(), r.clocks.boot()
		if v.passedSince(was, since, boot) {
			r.recut()
		}
	}
}

// recut cuts what the view does not allow at this moment.
func (r *Replica) recut() {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	r.cut(r.view.Load())
}
