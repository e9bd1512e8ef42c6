package pdp_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// said is what the oracle finds one grant to say.
type said struct {
	grant  *grantv1.Grant
	exact  int // how far from naming the target exactly, 0 is exactly
	reason pdp.Reason
	stale  bool // it is an allow whose bound has passed
	met    bool // the session is one that it applies in
}

// oracle decides as the design says a call is decided, in the plainest way.
func (w world) oracle(q question) (pdp.Decision, bool) {
	var agent *grantv1.Agent
	serverKnown, toolKnown, halted := false, false, false
	var tool *grantv1.Tool
	longest := bound
	var all []said
	for _, m := range w.messages {
		switch m := m.(type) {
		case *grantv1.FleetState:
			halted = true
		case *grantv1.Agent:
			agent = m
		case *grantv1.Server:
			serverKnown = serverKnown || m.GetName() == "namespaces/shop/servers/"+q.call.Server
		case *grantv1.Tool:
			if q.call.Kind == pdp.Tool && m.GetName() == "namespaces/shop/servers/"+q.call.Server+"/tools/"+q.call.Name {
				toolKnown, tool = true, m
			}
		case *grantv1.Grant:
			longest = max(longest, m.GetFreshnessBound().AsDuration())
			if s, ok := w.say(m, q); ok {
				all = append(all, s)
			}
		}
	}
	session := w.session(q.call.Session)
	if agent == nil {
		session = nil
	}
	deny := func(r pdp.Reason) (pdp.Decision, bool) {
		return pdp.Decision{Reason: r, Session: session.GetName()}, false
	}
	allows := slices.ContainsFunc(all, func(s said) bool { return s.grant.GetEffect() == grantv1.Grant_ALLOW })
	switch {
	case q.age >= longest || q.longest > 0 && q.age >= q.longest:
		return deny(pdp.Stale)
	case halted:
		return deny(pdp.Halted)
	case agent.GetState() != grantv1.Agent_ACTIVE:
		return deny(pdp.Suspended)
	case q.call.Session != "" && (session == nil || !q.at.Before(session.GetExpireTime().AsTime())):
		return deny(pdp.SessionEnded)
	case q.call.Session != "" && session.GetClaimant() != me:
		return deny(pdp.SessionClaimed)
	case q.call.Kind == pdp.Resource && slices.Contains(unclear, q.call.Name):
		return deny(pdp.Malformed)
	case !allows && (!serverKnown || q.call.Kind == pdp.Tool && !toolKnown):
		return deny(pdp.NotGranted)
	case !serverKnown:
		return deny(pdp.UnknownServer)
	case q.call.Kind == pdp.Tool && !toolKnown:
		return deny(pdp.UnknownTool)
	}
	order := []pdp.Reason{
		pdp.Forbidden, pdp.Granted, pdp.Stale, pdp.Unavailable, pdp.RateLimited, pdp.LimitReached,
		pdp.ConditionFalse, pdp.SessionRequired, pdp.NotYetValid, pdp.Expired,
	}
	slices.SortFunc(all, func(a, b said) int {
		return cmp.Or(
			slices.Index(order, a.reason)-slices.Index(order, b.reason),
			a.exact-b.exact,
			cmp.Compare(a.grant.GetName(), b.grant.GetName()),
		)
	})
	d := pdp.Decision{Reason: pdp.NotGranted, Session: session.GetName()}
	for _, s := range all {
		if s.grant.GetEffect() == grantv1.Grant_FORBID && s.reason != pdp.Forbidden {
			continue
		}
		d.Allow, d.Reason, d.Grant = s.reason == pdp.Granted, s.reason, s.grant.GetName()
		break
	}
	left := q.left(session.GetName(), session.GetLimits())
	switch {
	case !d.Allow:
	case (tool.GetDefinition() != nil || tool.GetDigest() != "") && !q.fits():
		d.Allow, d.Reason, d.Grant = false, pdp.ArgumentsInvalid, ""
	case left != pdp.Granted:
		d.Allow, d.Reason, d.Grant = false, left, ""
	}
	return d, visible(all)
}

// left returns what is left under limits.
func (q question) left(name string, limits *grantv1.Limits) pdp.Reason {
	r, ok := q.used[name]
	switch {
	case limits == nil || !ok:
		return pdp.Granted
	case r == pdp.Stale: // no answer to that question
		return pdp.Unavailable
	default:
		return r
	}
}

// fits reports whether the arguments are those of the pinned schema.
func (q question) fits() bool {
	n, hasN := q.args["n"]
	_, isInt := n.(int)
	s, hasS := q.args["s"]
	_, isText := s.(string)
	return (!hasN || isInt) && (!hasS || isText)
}

// meets reports whether a session, nil if there is none, is what a grant asks
// for.
func meets(g *grantv1.Grant, s *grantv1.Session) bool {
	ask := g.GetSession()
	switch {
	case ask == nil:
		return true
	case s == nil:
		return false
	case s.GetOrigin() == grantv1.Session_AGENT && !ask.GetSelfOpened():
		return false
	case len(ask.GetPurposes()) > 0 && !slices.Contains(ask.GetPurposes(), s.GetPurpose()):
		return false
	case len(ask.GetUsers()) > 0 && !slices.Contains(ask.GetUsers(), s.GetUser()):
		return false
	default:
		return !ask.GetAnyUser() || s.GetUser() != ""
	}
}

func visible(all []said) bool {
	listed := false
	for _, s := range all {
		inWindow := s.reason != pdp.Expired && s.reason != pdp.NotYetValid
		if s.grant.GetEffect() == grantv1.Grant_ALLOW {
			listed = listed || inWindow && !s.stale && s.met
		} else if inWindow && s.grant.GetCondition() == "" {
			return false
		}
	}
	return listed
}

// say returns what a grant says of a call; ok is false if it does not cover it.
func (w world) say(g *grantv1.Grant, q question) (s said, ok bool) {
	s = said{grant: g, exact: -1}
	for _, t := range g.GetTargets() {
		if n := distance(t, q.call); n >= 0 && (s.exact < 0 || n < s.exact) {
			s.exact = n
		}
	}
	forbid := g.GetEffect() == grantv1.Grant_FORBID
	own := bound
	if g.GetFreshnessBound() != nil {
		own = g.GetFreshnessBound().AsDuration()
	}
	s.stale = !forbid && (q.age >= own || q.longest > 0 && q.age >= q.longest)
	s.met = meets(g, w.session(q.call.Session))
	left := q.left(g.GetName(), g.GetLimits())
	holds, evaluated := false, false
	for _, f := range forms {
		if f.cel == g.GetCondition() {
			holds, evaluated = f.eval(q, w)
		}
	}
	switch {
	case !q.at.Before(g.GetExpireTime().AsTime()):
		s.reason = pdp.Expired
	case g.GetNotBefore() != nil && q.at.Before(g.GetNotBefore().AsTime()):
		s.reason = pdp.NotYetValid
	case !s.met:
		s.reason = pdp.SessionRequired
	case forbid && (holds || !evaluated):
		s.reason = pdp.Forbidden
	case !forbid && holds && evaluated && left != pdp.Granted:
		s.reason = left
	case !forbid && holds && evaluated && s.stale:
		s.reason = pdp.Stale
	case !forbid && holds && evaluated:
		s.reason = pdp.Granted
	default:
		s.reason = pdp.ConditionFalse
	}
	return s, s.exact >= 0
}

// distance returns how exactly a target names what is called: 0 is exactly, -1
// not at all.
func distance(t *grantv1.Target, c pdp.Call) int {
	full := c.Server + "/" + c.Name
	kind, pattern := pdp.Kind(0), ""
	switch t := t.GetTarget().(type) {
	case *grantv1.Target_Tool:
		kind, pattern = pdp.Tool, t.Tool
	case *grantv1.Target_Resource:
		kind, pattern = pdp.Resource, t.Resource
	case *grantv1.Target_Prompt:
		kind, pattern = pdp.Prompt, t.Prompt
	case *grantv1.Target_Method:
		kind, pattern = pdp.Method, t.Method
	}
	prefix, open := strings.CutSuffix(pattern, "*")
	switch {
	case kind != c.Kind:
		return -1
	case pattern == full:
		return 0
	case open && strings.HasPrefix(full, prefix):
		return 1 + len(full) - len(prefix)
	default:
		return -1
	}
}

// TestOracle compares 10,000 decisions with the oracle's.
func TestOracle(t *testing.T) {
	t.Parallel()
	reasons := make(map[pdp.Reason]int)
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := someWorld(r)
		s := w.snapshot(t)
		for range 20 {
			q := someQuestion(t, r)
			want, listed := w.oracle(q)
			want.Revision = s.Revision()
			if e, ok := s.Lookup(want.Grant); ok {
				want.GrantRevision = e.Revision()
			}
			if got := pdp.Decide(s, q.call, q.asked()); got != want {
				t.Fatalf("seed %d, %v with %v at %v, %s of %s old, %v:\n got %+v\nwant %+v", seed, q.call, q.args, q.at, q.age, q.longest, q.used, got, want)
			}
			if got := pdp.Visible(s, q.call, q.asked()); got != listed {
				t.Fatalf("seed %d, %v: visible is %t, want %t", seed, q.call, got, listed)
			}
			reasons[want.Reason]++
		}
	}
	for _, r := range []pdp.Reason{
		pdp.Granted, pdp.NotGranted, pdp.Forbidden, pdp.ConditionFalse, pdp.Expired, pdp.NotYetValid,
		pdp.Stale, pdp.Halted, pdp.Suspended, pdp.UnknownTool, pdp.UnknownServer, pdp.Malformed,
		pdp.SessionRequired, pdp.SessionEnded, pdp.SessionClaimed, pdp.LimitReached, pdp.RateLimited, pdp.Unavailable,
		pdp.ArgumentsInvalid,
	} {
		if reasons[r] < 50 {
			t.Errorf("only %d of 10,000 cases are %s", reasons[r], r)
		}
	}
}
