package pdp

import (
	"slices"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/sidecar/condition"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// An evaluation is one decision in the making. Evaluations are reused, which
// is what keeps decisions free of allocations.
type evaluation struct {
	call Call
	now  int64 // as a grant.Instant
	// age and bound are those of the At.
	age, bound time.Duration
	input      condition.Input
	usage      Usage
	// session is the one that the call is made in; nil if in none. tool is the
	// catalogue's entry of what is called; nil if that is not a tool.
	session *grant.Session
	tool    *grant.Tool
	// covers hold the grants that name the target; room is theirs as long as
	// they are few.
	covers []*grant.Cover
	room   [4]*grant.Cover
}

var evaluators = sync.Pool{New: func() any { return new(evaluation) }}

// release gives e back, holding on to nothing.
func (e *evaluation) release() {
	*e = evaluation{}
	evaluators.Put(e)
}

// decide settles the call.
func (e *evaluation) decide(s *grant.Snapshot, c Call, at *At) Decision {
	d := Decision{Revision: s.Revision()}
	d.Reason = e.begin(s, c, at)
	if e.session != nil {
		d.Session = e.session.Name()
	}
	if d.Reason != Granted {
		return d
	}
	if g := e.forbidding(); g != nil {
		d.Reason, d.Grant, d.GrantRevision = Forbidden, g.Name(), g.Revision()
		return d
	}
	g, reason := e.allowing()
	if reason == Granted {
		if d.Reason = e.besides(); d.Reason != Granted {
			return d
		}
	}
	d.Allow, d.Reason = reason == Granted, reason
	if g != nil {
		d.Grant, d.GrantRevision = g.Name(), g.Revision()
	}
	return d
}

// begin finds what covers the call. It returns Granted if that is to decide,
// and otherwise why the call is denied whatever the grants say: then e has no
// covers.
func (e *evaluation) begin(s *grant.Snapshot, c Call, at *At) Reason {
	e.now = grant.Instant(at.Now)
	var r Reason
	if e.session, r = within(s, c, at, e.now); r != Granted {
		return r
	}
	if c.Kind == Resource && grant.URIProblem(c.Name) != "" {
		return Malformed
	}
	covers, known := s.Covering(e.room[:0], c.Kind, c.Server, c.Name)
	listed := c.Kind != Tool || len(covers) > 0 && covers[0].Tool() != nil
	switch {
	case known && listed:
	case !slices.ContainsFunc(covers, allows):
		// What no grant reaches is denied alike, whether the catalogue has it
		// or not: a sidecar is not told of what is not for its agent.
		return NotGranted
	case !known:
		return UnknownServer
	default:
		return UnknownTool
	}
	e.covers = covers
	if c.Kind == Tool {
		e.tool = covers[0].Tool()
		e.input.Tool = e.tool.Variables()
	}
	if e.session != nil {
		e.input.Session = e.session.Variables()
	}
	e.call, e.age, e.bound, e.usage = c, at.Age, at.Bound, at.Usage
	e.input.Agent, e.input.Args, e.input.Now = s.Agent().Variables(), c.Args, at.Now
	return Granted
}

// within returns the session that a call is made in, nil if in none, and Granted
// if the agent may act in it at all, and otherwise why not.
func within(s *grant.Snapshot, c Call, at *At, now int64) (*grant.Session, Reason) {
	r := standing(s, at)
	if c.Session == "" {
		return nil, r
	}
	session := s.Session(c.Session)
	switch {
	case r != Granted:
	case session == nil || session.Expired(now):
		r = SessionEnded
	case session.Claimant() == "" || session.Claimant() != s.Claimant():
		r = SessionClaimed
	}
	return session, r
}

// standing returns Granted if the agent may act at all, and otherwise why not.
// Stale comes first: then nothing that is held can be relied on.
func standing(s *grant.Snapshot, at *At) Reason {
	agent := s.Agent()
	last := max(at.Bound, s.LongestBound())
	if at.Longest > 0 {
		last = min(last, at.Longest)
	}
	switch {
	case !fresh(at.Age, last):
		return Stale
	case s.Halted():
		return Halted
	case agent == nil || !agent.Active():
		return Suspended
	default:
		return Granted
	}
}

func allows(c *grant.Cover) bool { return len(c.Allows()) > 0 }

// forbidding returns the first forbid that applies; nil if none does.
func (e *evaluation) forbidding() *grant.Grant {
	for _, c := range e.covers {
		forbids := c.Forbids()
		for i := range forbids {
			g := &forbids[i]
			if applies, _, _ := e.ask(g); applies {
				return g
			}
		}
	}
	return nil
}

// besides returns Granted unless what grants do not speak of denies what they
// allow: the schema of a pinned tool's arguments, or the session's own limits.
func (e *evaluation) besides() Reason {
	if e.tool != nil && e.tool.Pinned() && e.tool.Arguments().Check(e.call.Args) != nil {
		return ArgumentsInvalid
	}
	if e.usage != nil && e.session != nil && e.session.Limits().Any() {
		return left(e.usage.Session(e.session))
	}
	return Granted
}

// left returns what a Usage answered, held to what it may answer.
func left(r Reason) Reason {
	switch r {
	case Granted, LimitReached, RateLimited:
		return r
	default:
		return Unavailable
	}
}

// allowing returns the first allow that applies, and Granted. If none does, it
// returns why not, and the grant that came nearest, if any.
func (e *evaluation) allowing() (*grant.Grant, Reason) {
	var nearest *grant.Grant
	reason := NotGranted
	for _, c := range e.covers {
		allows := c.Allows()
		for i := range allows {
			g := &allows[i]
			_, r, _ := e.ask(g)
			if r == Granted {
				return g, Granted
			}
			if near[r] > near[reason] {
				nearest, reason = g, r
			}
		}
	}
	return nearest, reason
}

// near ranks why an allow did not allow: the nearer it came, the higher.
var near = [Reasons]int8{
	NotGranted: 0, Expired: 1, NotYetValid: 2, SessionRequired: 3, ConditionFalse: 4,
	LimitReached: 5, RateLimited: 6, Unavailable: 7, Stale: 8,
}

// ask returns whether g applies, why or why not, and the error of its condition
// if that could not be evaluated: then an allow does not apply and a forbid
// does.
func (e *evaluation) ask(g *grant.Grant) (applies bool, reason Reason, err error) {
	switch {
	case g.Expired(e.now):
		return false, Expired, nil
	case !g.Begun(e.now):
		return false, NotYetValid, nil
	case g.NeedsSession() && !g.MetBy(e.session):
		return false, SessionRequired, nil
	}
	applies = true
	if c := g.Condition(); c != nil {
		applies, err = c.Holds(e.variables())
		if err != nil {
			applies = g.Forbids()
		}
	}
	switch {
	case !applies:
		return false, ConditionFalse, err
	case g.Forbids():
		return true, Forbidden, err
	}
	if g.Limited() && e.usage != nil {
		if r := left(e.usage.Grant(g)); r != Granted {
			return false, r, nil
		}
	}
	switch {
	case !e.fresh(g):
		return false, Stale, nil
	default:
		return true, Granted, nil
	}
}

// fresh reports whether an allow may be acted on at the age.
func (e *evaluation) fresh(g *grant.Grant) bool {
	bound := g.FreshnessBound()
	if bound == 0 {
		bound = e.bound
	}
	return fresh(e.age, bound)
}

// variables returns what conditions read. What is not a tool is boxed when the
// first condition asks for it.
func (e *evaluation) variables() *condition.Input {
	if e.input.Tool == nil {
		t := condition.NewTool(e.call.Server, e.call.Name, "", "")
		e.input.Tool = &t
	}
	return &e.input
}
