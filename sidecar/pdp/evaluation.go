package pdp

import (
	"cmp"
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
	if d.Reason = e.begin(s, c, at); d.Reason != Granted {
		return d
	}
	if g := e.forbidding(); g != nil {
		d.Reason, d.Grant, d.GrantRevision = Forbidden, g.Name(), g.Revision()
		return d
	}
	g, reason := e.allowing()
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
	if r := standing(s, at); r != Granted {
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
		e.input.Tool = covers[0].Tool().Variables()
	}
	e.call, e.now, e.age, e.bound = c, grant.Instant(at.Now), at.Age, at.Bound
	e.input.Agent, e.input.Args, e.input.Now = s.Agent().Variables(), c.Args, at.Now
	return Granted
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
var near = [...]int8{NotGranted: 0, Expired: 1, NotYetValid: 2, ConditionFalse: 3, Stale: 4}

// ask returns whether g applies, why or why not, and the error of its condition
// if that could not be evaluated: then an allow does not apply and a forbid
// does.
func (e *evaluation) ask(g *grant.Grant) (applies bool, reason Reason, err error) {
	switch {
	case g.Expired(e.now):
		return false, Expired, nil
	case !g.Begun(e.now):
		return false, NotYetValid, nil
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

// findings asks every grant that covers the call, each once.
func (e *evaluation) findings() []Finding {
	var findings []Finding
	for _, c := range e.covers {
		for _, grants := range [...][]grant.Grant{c.Forbids(), c.Allows()} {
			for i := range grants {
				f := Finding{Grant: &grants[i]}
				var err error
				if f.Applies, f.Reason, err = e.ask(f.Grant); err != nil {
					f.Detail = err.Error()
				}
				findings = append(findings, f)
			}
		}
	}
	slices.SortFunc(findings, func(a, b Finding) int { return cmp.Compare(a.Grant.Name(), b.Grant.Name()) })
	return slices.CompactFunc(findings, func(a, b Finding) bool { return a.Grant.Name() == b.Grant.Name() })
}

// visible reports whether what covers the call lets it be listed.
func (e *evaluation) visible() bool {
	allowed := false
	for _, c := range e.covers {
		forbids, allows := c.Forbids(), c.Allows()
		for i := range forbids {
			if g := &forbids[i]; e.inWindow(g) && g.Condition() == nil {
				return false
			}
		}
		for i := 0; i < len(allows) && !allowed; i++ {
			allowed = e.inWindow(&allows[i]) && e.fresh(&allows[i])
		}
	}
	return allowed
}

func (e *evaluation) inWindow(g *grant.Grant) bool { return g.Begun(e.now) && !g.Expired(e.now) }
