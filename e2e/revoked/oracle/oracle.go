// Package oracle holds what was allowed, and what arrived at the tools, against
// the revocations whose wait had returned.
package oracle

import (
	"fmt"
	"slices"
	"time"
)

// Transit is how much later than a wait's return a call may arrive: it was on
// its way. Records of calls that were sent are compared without any allowance.
const Transit = 250 * time.Millisecond

// Recording is how much later the record may be of a call that was withdrawn
// before anything was sent: a wait may return between its decision and its record,
// and a process may have to wait for a processor in between.
const Recording = 50 * time.Millisecond

// A Unit is authority that is given and taken as a whole: one agent's use of
// one target, "server/tool".
type Unit struct{ Agent, Target string }

// A Revocation is authority that was taken.
type Revocation struct {
	// Name says what was done, for people.
	Name string
	// Covers are the units that it took, and Sessions the resource names of the
	// sessions that it ended.
	Covers   map[Unit]bool
	Sessions map[string]bool
	// Returned is when the wait for it returned.
	Returned time.Time
	// Restored is directly before anyone began to give the authority back; zero
	// if nobody has.
	Restored time.Time
}

// holds reports whether nothing of what was taken may be allowed at an instant.
func (r *Revocation) holds(at time.Time, allowance time.Duration) bool {
	return at.After(r.Returned.Add(allowance)) && (r.Restored.IsZero() || at.Before(r.Restored))
}

// An Allow is a record of a decision to allow.
type Allow struct {
	Unit
	// ID is the decision's, and Digest that of the arguments.
	ID, Digest string
	// Session and Grant are the resource names of the session that the call was
	// made in, and of the grant that settled it; empty for none.
	Session, Grant string
	// Sidecar is whose agent made the call, as the agent says: [Nobody] if none
	// did. It is only known of calls in a session or under a limited grant.
	Sidecar int
	// Time is the record's.
	Time time.Time
	// Withdrawn is whether an outcome says that nothing was sent, Broken that it
	// came to nothing, so that perhaps nothing was, and Cut that the call was cut.
	Withdrawn, Broken, Cut bool
}

// outcome says, for people, what is known of the call after the decision.
func (a *Allow) outcome() string {
	switch {
	case a.Withdrawn:
		return "withdrawn: nothing was sent"
	case a.Broken:
		return "it came to nothing"
	case a.Cut:
		return "it was cut"
	default:
		return "sent, or without an outcome"
	}
}

// Nobody is the sidecar of a call that no agent made.
const Nobody = -1

// An Arrival is a call as a tool's journal has it.
type Arrival struct {
	Unit
	// ID is the call's own, and Digest that of its arguments.
	ID, Digest string
	// Session is the resource name of the session that the agent named; empty for
	// none.
	Session string
	// Time is when it arrived.
	Time time.Time
}

// Late returns a sentence for each allow and each arrival that P2 forbids. A wait
// may return between a decision and its record; such a call is looked at again
// before it is sent, and withdrawn.
func Late(revocations []*Revocation, allows []Allow, arrivals []Arrival) []string {
	byUnit := make(map[Unit][]*Revocation)
	bySession := make(map[string][]*Revocation)
	for _, r := range revocations {
		for u := range r.Covers {
			byUnit[u] = append(byUnit[u], r)
		}
		for s := range r.Sessions {
			bySession[s] = append(bySession[s], r)
		}
	}
	var late []string
	tell := func(what string, u Unit, session string, at time.Time, allowance time.Duration) {
		for _, r := range slices.Concat(byUnit[u], bySession[session]) {
			if r.holds(at, allowance) {
				late = append(late, fmt.Sprintf("%s at %s, %v after the wait for %q had returned", what, clock(at), at.Sub(r.Returned), r.Name))
			}
		}
	}
	for _, a := range allows {
		var allowance time.Duration
		if a.Withdrawn {
			allowance = Recording
		}
		tell(fmt.Sprintf("decision %s allowed %s %s%s (%s)", a.ID, a.Agent, a.Target, in(a.Session), a.outcome()), a.Unit, a.Session, a.Time, allowance)
	}
	for _, a := range arrivals {
		tell(fmt.Sprintf("call %s of %s to %s arrived", a.ID, a.Agent, a.Target), a.Unit, a.Session, a.Time, Transit)
	}
	return late
}

func in(session string) string {
	if session == "" {
		return ""
	}
	return " in " + session
}

func clock(t time.Time) string { return t.Format("15:04:05.000000") }

// around tells of the agent's records directly before and after a call: whether
// numbers between them are missing tells a record that was lost from one that was
// never made.
func around(allows []Allow, a Arrival) string {
	var before, after Allow
	for _, r := range allows {
		switch {
		case r.Agent != a.Agent:
		case !r.Time.After(a.Time) && r.Time.After(before.Time):
			before = r
		case r.Time.After(a.Time) && (after.ID == "" || r.Time.Before(after.Time)):
			after = r
		}
	}
	return fmt.Sprintf("the agent's allows around it are %s at %s and %s at %s", before.ID, clock(before.Time), after.ID, clock(after.Time))
}

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
			wrong = append(wrong, fmt.Sprintf("call %s of %s to %s arrived at %s without a record; %s",
				a.ID, a.Agent, a.Target, clock(a.Time), around(allows, a)))
		case records[i].Session != a.Session:
			wrong = append(wrong, fmt.Sprintf("call %s arrived, and record %s says that it was made in session %q", a.ID, records[i].ID, records[i].Session))
		case records[i].Withdrawn:
			wrong = append(wrong, fmt.Sprintf("call %s arrived, and record %s says that it was withdrawn", a.ID, records[i].ID))
		}
	}
	return wrong
}
