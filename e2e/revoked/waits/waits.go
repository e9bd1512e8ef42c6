// Package waits holds how long waits for revocations took against the freshness
// bound: P2's other half. A revocation is in force at the latest one longest bound
// after a control plane was asked, whatever sidecars and other control planes do.
package waits

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// drift is by how much clocks may run apart: see rollout.Outlast.
	drift = 0.002
	// Allowance is what a wait may take beyond the bound on a machine that is not
	// busy: timers, a message each way, and the read of the presences before it.
	Allowance = 100 * time.Millisecond
	// busy is how often by as much as this process found itself late the others
	// may have been: several have to run, one after the other, to end a wait.
	busy = 4
	// Election is how long the store may not answer when it lost a member: the
	// members elect another leader, and a client finds out that its member is
	// gone.
	Election = 3 * time.Second
	// aftermath is how long a control plane may need after a fault until it is as
	// before: it starts, or connects anew.
	aftermath = 3 * time.Second
	// settling is how much longer than a bound it takes after a fault until waits
	// are what they are without.
	settling = 200 * time.Millisecond
	// lowering is how long a bound may count after its grant was given: the grant is
	// there for some seconds, somebody looks every 45 s at least whether the longest
	// bound can be lowered, waits it out, and may have to do that twice.
	lowering = 90 * time.Second
)

// A Wait is one wait that returned.
type Wait struct {
	// Name says what was waited for, for people.
	Name string
	// Asked are the control planes that were asked, in turn; the last one
	// answered.
	Asked []int
	// Begin is when the first was asked, Last when the last was, and End when it
	// said that it is in force.
	Begin, Last, End time.Time
	// Elapsed is what the last one said that it took.
	Elapsed time.Duration
}

// A Trouble is what kept control planes from what they should do.
type Trouble struct {
	Name       string
	Begin, End time.Time
	// Hurts are the control planes that are stopped, killed or cut off from the
	// store; what they are asked may take as long as it does.
	Hurts []int
	// Everybody is whether all are, for the store is away.
	Everybody bool
	// Elects is whether the store lost a member, and nothing else.
	Elects bool
	// Restarts is whether a control plane began anew.
	Restarts bool
}

func (t *Trouble) during(begin, end, now time.Time, after time.Duration) bool {
	over := t.End
	if over.IsZero() {
		over = now
	}
	return end.After(t.Begin) && begin.Before(over.Add(after))
}

// A Judge knows what went wrong when, and says which waits took too long. It may
// be used by many goroutines.
type Judge struct {
	mu       sync.Mutex // guards the fields below
	bound    time.Duration
	longer   []stretch // when a longer bound may have counted
	troubles []*Trouble
	lags     []lag
}

type stretch struct {
	begin, end time.Time
	bound      time.Duration
}

type lag struct {
	at time.Time
	by time.Duration
}

// New returns a judge of waits on a cluster with a freshness bound.
func New(bound time.Duration) *Judge { return &Judge{bound: bound} }

// Longer says that a bound longer than the cluster's may count from now on: that
// of a grant, until some time after there is none with it. Control planes look
// seldom whether there is, so it counts for long, and if one that was about to
// look is lost, for as long again.
func (j *Judge) Longer(bound time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	j.longer = append(j.longer, stretch{begin: now, end: now.Add(lowering), bound: bound})
}

// Began says that there is trouble, until [Judge.Ended].
func (j *Judge) Began(t *Trouble) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t.Begin = time.Now()
	j.troubles = append(j.troubles, t)
}

// Ended says that trouble is over.
func (j *Judge) Ended(t *Trouble) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t.End = time.Now()
	for i, s := range j.longer {
		if (t.Restarts || t.Everybody) && s.end.After(t.Begin) {
			j.longer[i].end = t.End.Add(lowering)
		}
	}
}

// boundOf returns the longest bound that may count in a stretch.
func (j *Judge) boundOf(begin, end time.Time) time.Duration {
	bound := j.bound
	for _, s := range j.longer {
		if begin.Before(s.end) && end.After(s.begin) {
			bound = max(bound, s.bound)
		}
	}
	return bound
}

// Calm reports whether nothing was wrong, nor had been for so long that whoever
// was lost may be fresh.
func (j *Judge) Calm(w Wait) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	after := j.boundOf(w.Begin, w.End) + settling
	return !slices.ContainsFunc(j.troubles, func(t *Trouble) bool { return t.during(w.Begin, w.End, time.Now(), after) })
}

// UntilCalm is how long it is until waits are calm, if all goes well and no bound
// counts that is longer than the cluster's.
func (j *Judge) UntilCalm() (d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.troubles {
		d = max(d, time.Until(t.End.Add(j.bound+settling)))
	}
	return d
}

// Check returns a sentence if a wait took too long. A control plane that was hurt
// meanwhile, or just before, is not held to anything: the troubles of the time
// must be over, or have begun.
func (j *Judge) Check(w Wait) (late string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	bound := j.boundOf(w.Begin, w.End)
	most := bound + time.Duration(float64(bound)*drift)
	allowance, hurt := Allowance+busy*j.lagged(w.Begin, w.End), make(map[int]bool)
	elects := false
	for _, t := range j.troubles {
		if !t.during(w.Begin, w.End, time.Now(), aftermath) {
			continue
		}
		if t.Everybody {
			return ""
		}
		elects = elects || t.Elects
		for _, r := range t.Hurts {
			hurt[r] = true
		}
	}
	if elects {
		allowance += Election
	}
	if last := w.Asked[len(w.Asked)-1]; !hurt[last] {
		if w.Elapsed > most+allowance {
			return fmt.Sprintf("the wait for %q took %v as r%d says, and the longest bound is %v: %v at the most",
				w.Name, w.Elapsed, last, bound, most+allowance)
		}
		if took := w.End.Sub(w.Last); took > most+allowance {
			return fmt.Sprintf("the wait for %q at r%d took %v here (%v as r%d says), and the longest bound is %v: %v at the most",
				w.Name, last, took, w.Elapsed, last, bound, most+allowance)
		}
	}
	// Who asked several in turn waited in vain for those before.
	for _, r := range w.Asked {
		if hurt[r] {
			return ""
		}
	}
	if took := w.End.Sub(w.Begin); took > most+allowance {
		return fmt.Sprintf("the wait for %q took %v, asking %v in turn, none of which was hurt, and the longest bound is %v: %v at the most",
			w.Name, took, w.Asked, bound, most+allowance)
	}
	return ""
}

// lagged is the most by which this process found itself late in a stretch.
func (j *Judge) lagged(begin, end time.Time) (most time.Duration) {
	for _, l := range j.lags {
		if !l.at.Before(begin) && l.at.Add(-l.by).Before(end) {
			most = max(most, l.by)
		}
	}
	return most
}
