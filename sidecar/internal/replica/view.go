package replica

import (
	"math"
	"time"

	"github.com/reeve-authz/reeve/sidecar/fault"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// A View is what may be acted on at one moment. It is immutable; how fresh it is
// is asked of the clocks each time.
type View struct {
	// Snapshot is what the agent holds. Never nil.
	Snapshot *grant.Snapshot

	clocks *clocks
	// replaced is closed when there is a newer view.
	replaced chan struct{}
	// heard is whether what follows is of an answer. asked is when the request was
	// made, on the boot clock, bound what it answered, and longest what no grant's
	// bound exceeds by it; that is no less than bound.
	heard                 bool
	asked, bound, longest time.Duration
	// answered is when that answer came; zero before any. Unlike heard it
	// outlives a lapse.
	answered mark
	// floor is what "now" was at least, at floorAt on the boot clock; zero before
	// any answer.
	floor   time.Time
	floorAt time.Duration
}

// Replaced returns a channel that is closed when there is a newer view.
func (v *View) Replaced() <-chan struct{} { return v.replaced }

// never is the age of what was never heard: older than every bound.
const never = math.MaxInt64

// At reads the clocks, each once, and returns the moment to decide for and
// whether anything may be acted on at all. If not, the age is beyond every bound,
// so that whatever is decided for it is denied.
//
// Nothing may be acted on before anything was heard, when the longest bound has
// passed, of those held or of those that the last answer allows, and once the
// wall clock has been found to have gone on by another time than the boot clock
// since the last answer: one of them was set, or the machine is a copy.
func (v *View) At() (at pdp.At, live bool) {
	wall := v.clocks.wall()
	boot := v.clocks.boot()
	at = pdp.At{Now: v.now(wall, boot), Age: never, Bound: v.bound, Longest: v.longest}
	switch {
	case fault.Off(fault.Freshness):
		at.Age = 0
	case !v.heard || !v.clocks.agree(v.answered, wall, boot) || boot < v.asked:
		return at, false
	default:
		at.Age = boot - v.asked
	}
	return at, at.Age == 0 || at.Age < min(v.longest, max(v.bound, v.Snapshot.LongestBound()))
}

// now returns the instant to hold expiries against: this machine's clock, but
// never less than the control plane's in any answer plus the time since, so that
// a clock set back revives nothing.
func (v *View) now(wall time.Time, boot time.Duration) time.Time {
	if v.floor.IsZero() {
		return wall
	}
	if floor := v.floor.Add(boot - v.floorAt); floor.After(wall) {
		return floor
	}
	return wall
}

// Live reports whether anything of the view may be acted on.
func (v *View) Live() bool {
	_, live := v.At()
	return live
}

// FreshFor returns for how long grants that name no bound of their own may still
// be acted on if nothing more is heard; 0 if they may not.
func (v *View) FreshFor() time.Duration {
	at, live := v.At()
	if !live {
		return 0
	}
	return max(0, at.Bound-at.Age)
}

// StaleIn returns after how long nothing may be acted on if no other answer comes,
// whatever else does; 0 if nothing may be now.
func (v *View) StaleIn() time.Duration {
	at, _ := v.At()
	return max(0, v.longest-at.Age)
}

// ShortestBound returns the shortest bound in use: that of the last answer, or
// one that a grant held names. It is 0 if there is neither.
func (v *View) ShortestBound() time.Duration {
	own := v.Snapshot.ShortestBound()
	if own == 0 || v.bound > 0 && v.bound < own {
		return v.bound
	}
	return own
}

// Passed reports whether a bound passed between two ages: then what was decided
// at the first may have become stale.
func (v *View) Passed(from, to time.Duration) bool {
	next := v.boundAfter(from)
	return next > 0 && next <= to
}

// boundAfter returns the shortest bound in use that is longer than age; 0 if
// there is none.
func (v *View) boundAfter(age time.Duration) time.Duration {
	next := v.Snapshot.BoundAfter(age)
	if v.bound > age && (next == 0 || v.bound < next) {
		next = v.bound
	}
	if next = min(next, v.longest); next > age {
		return next
	}
	return 0
}

// passedSince reports whether a bound has passed, by boot, that had not when the
// view was still was and the boot clock showed since.
func (v *View) passedSince(was *View, since, boot time.Duration) bool {
	from := since - v.asked
	if v.asked != was.asked || v.bound != was.bound || v.longest != was.longest {
		from = -1 // another answer: by that one every bound is still to pass
	}
	return v.heard && v.Passed(from, boot-v.asked)
}

// due returns when, on the boot clock, the next bound passes; 0 if none will.
func (v *View) due(boot time.Duration) time.Duration {
	next := v.boundAfter(boot - v.asked)
	if next == 0 || !v.heard {
		return 0
	}
	return v.asked + next
}
