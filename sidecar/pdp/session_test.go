package pdp_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// taken returns m with some of its authority taken, nil if all of it is, and m
// itself if there is none to take.
func taken(tb rapid.TB, r *rand.Rand, m proto.Message) proto.Message {
	tb.Helper()
	switch m := proto.Clone(m).(type) {
	case *grantv1.Session:
		if r.IntN(2) == 0 {
			return nil
		}
		m.Claimant = pick(r, []string{notMe, ""})
		return m
	case *grantv1.Grant:
		if m.GetEffect() == grantv1.Grant_ALLOW && m.GetSession() == nil {
			m.Session = someRequirement(r)
		}
		return m
	case *grantv1.Tool:
		n, err := grant.ParseName(m.GetName())
		if err != nil {
			tb.Fatal(err)
		}
		for m.GetDefinition() == nil {
			m = someTool(r, n.Server, n.ID)
		}
		return m
	default:
		return m
	}
}

// TestTakingNeverPermits: a session that ends or is another's, a grant that asks
// for a session and a tool that is pinned allow nothing that was denied.
func TestTakingNeverPermits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		w := someWorld(r)
		s := w.snapshot(t)
		var upsert []grant.Entry
		var remove []string
		for _, m := range w.messages {
			if r.IntN(3) > 0 {
				continue
			}
			less := taken(rt, r, m)
			if less == nil {
				remove = append(remove, m.(*grantv1.Session).GetName())
				continue
			}
			e, err := grant.ParseEntry(less, 1)
			if err != nil {
				rt.Fatal(err)
			}
			upsert = append(upsert, e)
		}
		less := s.Apply(2, upsert, remove)
		for _, q := range questions(t, r) {
			if was, is := pdp.Decide(s, q.call, q.asked()), pdp.Decide(less, q.call, q.asked()); is.Allow && !was.Allow {
				rt.Fatalf("%v: it was %+v, and is now %+v", q.call, was, is)
			}
			if was, is := pdp.Visible(s, q.call, q.asked()), pdp.Visible(less, q.call, q.asked()); is && !was {
				rt.Fatalf("%v was hidden, and is now listed", q.call)
			}
			if was, is := pdp.Admit(s, q.call, q.asked()), pdp.Admit(less, q.call, q.asked()); is.Allow && !was.Allow {
				rt.Fatalf("%v: it was %+v, and is now %+v", q.call, was, is)
			}
		}
	})
}

// TestUsingUpNeverPermits: what is denied stays so when more is used up, and what
// is listed does not depend on it.
func TestUsingUpNeverPermits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		s := someWorld(r).snapshot(t)
		for _, q := range questions(t, r) {
			more := q
			more.used = maps.Clone(q.used)
			for name, left := range more.used {
				if left == pdp.Granted {
					more.used[name] = pick(r, outcomes)
				}
			}
			if was, is := pdp.Decide(s, q.call, q.asked()), pdp.Decide(s, q.call, more.asked()); is.Allow && !was.Allow {
				rt.Fatalf("%v: it was %+v, and when more is used up it is %+v", q.call, was, is)
			}
			more.used = nil
			if was, is := pdp.Visible(s, q.call, q.asked()), pdp.Visible(s, q.call, more.asked()); is != was {
				rt.Fatalf("%v is listed or not by what is used up", q.call)
			}
		}
	})
}

// TestSessionsOfOthers: a call in no session is decided as if there were none,
// and in an ended session nothing is allowed, admitted or listed (P6).
func TestSessionsOfOthers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		s := someWorld(r).snapshot(t)
		var all []string
		for e := range s.All() {
			if _, ok := e.(*grant.Session); ok {
				all = append(all, e.Name())
			}
		}
		without := s.Apply(s.Revision(), nil, all)
		for _, q := range questions(t, r) {
			in := q
			if q.call.Session == "" {
				in.call.Session = sessions[0]
			}
			q.call.Session = ""
			was, found := pdp.Explain(s, q.call, q.asked())
			is, now := pdp.Explain(without, q.call, q.asked())
			if diff := cmp.Diff(was, is); diff != "" || len(found) != len(now) {
				rt.Fatalf("%v, -with sessions of others +without:\n%s", q.call, diff)
			}
			d := pdp.Decide(without, in.call, in.asked())
			admitted := pdp.Admit(without, in.call, in.asked())
			if d.Allow || admitted.Allow || pdp.Visible(without, in.call, in.asked()) {
				rt.Fatalf("%v in an ended session: %+v, %+v", in.call, d, admitted)
			}
			early := []pdp.Reason{pdp.Stale, pdp.Halted, pdp.Suspended}
			if d.Reason != pdp.SessionEnded && !slices.Contains(early, d.Reason) || admitted.Reason != d.Reason {
				rt.Fatalf("%v in an ended session: %+v, %+v", in.call, d, admitted)
			}
		}
	})
}

// TestNobodysSnapshot: who does not know its own claim has no session, not even
// one that nobody has claimed.
func TestNobodysSnapshot(t *testing.T) {
	t.Parallel()
	w := someWorld(rand.New(rand.NewPCG(1, 1)))
	for _, claimant := range []string{"", me} {
		m := someSession(rand.New(rand.NewPCG(1, 1)), "one")
		m.Name, m.AgentUid, m.Claimant = grant.SessionName("shop", "triage", "one"), "triage-2", claimant
		e, err := grant.ParseEntry(m, 1)
		if err != nil {
			t.Fatal(err)
		}
		c := pdp.Call{Server: "s", Session: "one"}
		s := w.snapshot(t).As("").Apply(99, []grant.Entry{e}, nil)
		if d := pdp.Admit(s, c, pdp.At{Now: morning}); d.Reason != pdp.SessionClaimed {
			t.Errorf("claimed by %q: %+v", claimant, d)
		}
	}
}

// TestDecideDoesNotAllocate: what a decision needs is there before it.
func TestDecideDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	w := someWorld(r)
	w.messages = slices.DeleteFunc(w.messages, func(m proto.Message) bool {
		g, ok := m.(*grantv1.Grant)
		return ok && g.GetCondition() != forms[1].cel && g.GetCondition() != ""
	})
	s := w.snapshot(t)
	var qs []question
	for range 10 {
		qs = append(qs, questions(t, r)...)
	}
	reasons := make(map[pdp.Reason]int)
	for i := range qs {
		at := pdp.At{Now: morning, Usage: qs[i].used}
		if i%3 == 0 {
			at.Usage = nil
		}
		d := pdp.Decide(s, qs[i].call, at)
		reasons[d.Reason]++
		if d.Reason == pdp.ArgumentsInvalid || d.Reason == pdp.Malformed {
			continue // to find what is wrong with a call may cost something
		}
		if n := testing.AllocsPerRun(100, func() { pdp.Decide(s, qs[i].call, at) }); n > 0 {
			t.Errorf("%v allocations to decide %v: %+v", n, qs[i].call, d)
		}
	}
	if reasons[pdp.Granted] == 0 || reasons[pdp.LimitReached]+reasons[pdp.RateLimited] == 0 {
		t.Errorf("too little is decided: %v", reasons)
	}
}
