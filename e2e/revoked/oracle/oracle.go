// Package oracle holds what was allowed, and what arrived at the tools, against
// the revocations whose wait had returned.
package oracle

import (
	"fmt"
	"slices"
	"time"
)

// Transit is how much later than a wait's return a call may arrive: it was on
// its way. Records are compared without any allowance.
const Transit = 250 * time.Millisecond

// A Unit is authority that is given and taken as a whole: one agent's use of
// one target, "server/tool".
type Unit struct{ Agent, Target string }

// A Revocation is authority that was taken.
type Revocation struct {
	// Name says what was done, for people.
	Name string
	// Covers are the units that it took.
	Covers map[Unit]bool
	// Returned is when the wait for it returned.
	Returned time.Time
	// Restored is directly before anyone began to give the authority back; zero
	// if nobody has.
	Restored time.Time
}

// holds reports whether nothing of u may be allowed at an instant.
func (r *Revocation) holds(u Unit, at time.Time, allowance time.Duration) bool {
	return r.Covers[u] && at.After(r.Returned.Add(allowance)) && (r.Restored.IsZero() || at.Before(r.Restored))
}

// An Allow is a record of a decision to allow.
type Allow struct {
	Unit
	// ID is the decision's, and Digest that of the arguments.
	ID, Digest string
	// Time is the record's.
	Time time.Time
	// Withdrawn is whether an outcome says that nothing was sent, and Cut that
	// the call was cut.
	Withdrawn, Cut bool
}

// An Arrival is a call as a tool's journal has it.
type Arrival struct {
	Unit
	// ID is the call's own, and Digest that of its arguments.
	ID, Digest string
	// Time is when it arrived.
	Time time.Time
}

// Late returns a sentence for each allow and each arrival that P2 forbids.
func Late(revocations []*Revocation, allows []Allow, arrivals []Arrival) []string {
	byUnit := make(map[Unit][]*Revocation)
	for _, r := range revocations {
		for u := range r.Covers {
			byUnit[u] = append(byUnit[u], r)
		}
	}
	var late []string
	for _, a := range allows {
		for _, r := range byUnit[a.Unit] {
			if r.holds(a.Unit, a.Time, 0) {
				late = append(late, fmt.Sprintf("decision %s allowed %s %s at %s, %v after the wait for %q had returned",
					a.ID, a.Agent, a.Target, clock(a.Time), a.Time.Sub(r.Returned), r.Name))
			}
		}
	}
	for _, a := range arrivals {
		for _, r := range byUnit[a.Unit] {
			if r.holds(a.Unit, a.Time, Transit) {
				late = append(late, fmt.Sprintf("call %s of %s to %s arrived at %s, %v after the wait for %q had returned",
					a.ID, a.Agent, a.Target, clock(a.Time), a.Time.Sub(r.Returned), r.Name))
			}
		}
	}
	return late
}

func clock(t time.Time) string { return t.Format("15:04:05.000000") }

// Unrecorded returns the arrivals that no record explains: P3. Records follow
// calls to the log, so that one that is missing may be on its way.
func Unrecorded(allows []Allow, arrivals []Arrival) []string {
	recorded := make(map[string][]Allow, len(allows))
	for _, a := range allows {
		recorded[a.Digest] = append(recorded[a.Digest], a)
	}
	var wrong []string
	for _, a := range arrivals {
		records := recorded[a.Digest]
		switch i := slices.IndexFunc(records, func(r Allow) bool { return r.Unit == a.Unit }); {
		case i < 0:
			wrong = append(wrong, fmt.Sprintf("call %s of %s to %s arrived at %s without a record", a.ID, a.Agent, a.Target, clock(a.Time)))
		case records[i].Withdrawn:
			wrong = append(wrong, fmt.Sprintf("call %s arrived, and record %s says that it was withdrawn", a.ID, records[i].ID))
		}
	}
	return wrong
}
