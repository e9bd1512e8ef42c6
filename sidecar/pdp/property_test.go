package pdp_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// source draws the randomness that worlds and questions are made of.
func source(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
}

func questions(tb testing.TB, r *rand.Rand) []question {
	tb.Helper()
	all := make([]question, 30)
	for i := range all {
		all[i] = someQuestion(tb, r)
	}
	return all
}

// answers is all that can be observed of a snapshot but its revision.
func answers(s *grant.Snapshot, qs []question) []any {
	var all []any
	for _, q := range qs {
		d, findings := pdp.Explain(s, q.call, q.asked())
		d.Revision = 0
		admitted := pdp.Admit(s, q.call, q.asked())
		admitted.Revision = 0
		all = append(all, d, pdp.Visible(s, q.call, q.asked()), admitted)
		for _, f := range findings {
			all = append(all, f.Grant.Name(), f.Applies, f.Reason, f.Detail != "")
		}
	}
	for e := range s.All() {
		all = append(all, e.Name(), e.Revision())
	}
	return append(all, s.Len())
}

// TestDeltaByDeltaIsAllAtOnce: how a snapshot came about does not matter, and
// the ones on the way never change.
func TestDeltaByDeltaIsAllAtOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		qs := questions(t, r)
		type past struct {
			snapshot *grant.Snapshot
			answers  []any
		}
		var pasts []past
		held := make(map[string]grant.Entry)
		s := grant.Empty().As(me)
		for step := range rapid.IntRange(1, 8).Draw(rt, "steps") {
			var upsert []grant.Entry
			for i, m := range someWorld(r).messages {
				if r.IntN(3) == 0 {
					continue
				}
				e, err := grant.ParseEntry(m, int64(100*step+i))
				if err != nil {
					rt.Fatal(err)
				}
				upsert = append(upsert, e)
			}
			var remove []string
			for name := range held {
				if r.IntN(3) == 0 {
					remove = append(remove, name)
				}
			}
			remove = append(remove, "namespaces/shop/grants/never-held")
			for _, name := range remove {
				delete(held, name)
			}
			for _, e := range upsert {
				held[e.Name()] = e
			}
			s = s.Apply(int64(step)+1, upsert, remove)
			pasts = append(pasts, past{s, answers(s, qs)})
		}
		var all []grant.Entry
		for _, e := range held {
			all = append(all, e)
		}
		if diff := cmp.Diff(answers(grant.Empty().As(me).Apply(1, all, nil), qs), answers(s, qs)); diff != "" {
			rt.Fatalf("-all at once +delta by delta:\n%s", diff)
		}
		for i, p := range pasts {
			if diff := cmp.Diff(p.answers, answers(p.snapshot, qs)); diff != "" {
				rt.Fatalf("snapshot %d changed:\n%s", i, diff)
			}
		}
		var names []string
		for e := range s.All() {
			names = append(names, e.Name())
		}
		empty := s.Apply(99, nil, names)
		if diff := cmp.Diff(answers(grant.Empty().As(me), qs), answers(empty, qs)); diff != "" {
			rt.Fatalf("-never held anything +holds nothing:\n%s", diff)
		}
	})
}

// TestForbidNeverPermits: one more forbid, or one allow less, allows nothing
// that was denied.
func TestForbidNeverPermits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		w := someWorld(r)
		s := w.snapshot(t)
		m := someGrant(r, "z-forbid")
		m.Effect, m.FreshnessBound, m.Limits, m.Session = grantv1.Grant_FORBID, nil, nil, nil
		forbid, err := grant.ParseEntry(m, 1)
		if err != nil {
			rt.Fatal(err)
		}
		less := []*grant.Snapshot{s.Apply(2, []grant.Entry{forbid}, nil)}
		for _, m := range w.messages {
			if g, ok := m.(*grantv1.Grant); ok && g.GetEffect() == grantv1.Grant_ALLOW {
				less = append(less, s.Apply(2, nil, []string{g.GetName()}))
			}
		}
		for _, q := range questions(t, r) {
			before := pdp.Decide(s, q.call, q.asked()).Allow
			for _, after := range less {
				if d := pdp.Decide(after, q.call, q.asked()); d.Allow && !before {
					rt.Fatalf("%v was denied, and is now %v", q.call, d)
				}
			}
		}
	})
}

// TestHaltedNeverAllows: whatever else is held, a stop button denies and hides
// everything, and once it is gone, everything is as it was.
func TestHaltedNeverAllows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		var w world
		for _, m := range someWorld(r).messages {
			if _, ok := m.(*grantv1.FleetState); !ok {
				w.messages = append(w.messages, m)
			}
		}
		before, qs := w.snapshot(t), questions(t, r)
		name := pick(r, []string{"fleet", "namespaces/shop/fleet"})
		halt, err := grant.ParseEntry(&grantv1.FleetState{Name: name, State: grantv1.FleetState_HALTED}, 1)
		if err != nil {
			rt.Fatal(err)
		}
		halted := before.Apply(100, []grant.Entry{halt}, nil)
		for _, server := range servers {
			if d := pdp.Admit(halted, pdp.Call{Server: server}, pdp.At{Now: morning}); d.Allow || d.Reason != pdp.Halted {
				rt.Fatalf("it is halted, and what needs no grant is answered %v", d)
			}
		}
		for _, q := range qs {
			if d := pdp.Decide(halted, q.call, q.asked()); d.Allow || d.Reason != pdp.Halted && d.Reason != pdp.Stale {
				rt.Fatalf("%v is halted, and the decision is %v", q.call, d)
			}
			if pdp.Visible(halted, q.call, q.asked()) {
				rt.Fatalf("%v is halted, and listed", q.call)
			}
		}
		lifted := halted.Apply(101, nil, []string{name})
		if diff := cmp.Diff(answers(before, qs), answers(lifted, qs)); diff != "" {
			rt.Fatalf("-before +after a halt:\n%s", diff)
		}
	})
}

// TestOrderNeverMatters: not that of grants, of targets or of an Apply.
func TestOrderNeverMatters(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		w := someWorld(r)
		qs := questions(t, r)
		revisions := make(map[proto.Message]int64)
		parse := func(order []proto.Message) *grant.Snapshot {
			var entries []grant.Entry
			for _, m := range order {
				e, err := grant.ParseEntry(m, revisions[m])
				if err != nil {
					rt.Fatal(err)
				}
				entries = append(entries, e)
			}
			return grant.Empty().As(me).Apply(1, entries, nil)
		}
		for i, m := range w.messages {
			revisions[m] = int64(i)
		}
		want := answers(parse(w.messages), qs)
		shuffled := slices.Clone(w.messages)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for _, m := range shuffled {
			if g, ok := m.(*grantv1.Grant); ok {
				r.Shuffle(len(g.Targets), func(i, j int) { g.Targets[i], g.Targets[j] = g.Targets[j], g.Targets[i] })
			}
		}
		if diff := cmp.Diff(want, answers(parse(shuffled), qs)); diff != "" {
			rt.Fatalf("-before +after shuffling:\n%s", diff)
		}
	})
}

// TestZeroDecision holds P1: a decision that nobody made denies.
func TestZeroDecision(t *testing.T) {
	t.Parallel()
	if d := (pdp.Decision{}); d.Allow || d.Reason.String() != "stale" {
		t.Errorf("got %v", d)
	}
	if got := pdp.Decide(grant.Empty(), pdp.Call{}, pdp.At{Now: morning}); got.Allow || got.Reason != pdp.Suspended {
		t.Errorf("nothing is held, and the decision is %v", got)
	}
}

// FuzzDecide: nothing that can be called makes a decision panic or, where no
// grant covers it, allow.
func FuzzDecide(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 3))
	var snapshots []*grant.Snapshot
	for range 8 {
		snapshots = append(snapshots, someWorld(r).snapshot(f))
	}
	f.Add(uint8(1), uint8(1), "s", "x", "one", []byte(`{"n":5,"s":"a/x"}`))
	f.Add(uint8(2), uint8(2), "t", "f:/a", "", []byte(`{}`))
	f.Add(uint8(2), uint8(2), "t", "f:/a/%2e%2E/b", "two", []byte(`{}`))
	f.Add(uint8(0), uint8(130), "*", "*", "*", []byte(`{"n":{"n":[1.5]}}`))
	f.Fuzz(func(t *testing.T, which, kind uint8, server, name, session string, args []byte) {
		c := pdp.Call{Kind: pdp.Kind(kind), Server: server, Name: name, Session: session}
		if v, err := strictjson.Parse(args, strictjson.Limits{}); err == nil {
			c.Args, _ = v.(*strictjson.Object)
		}
		s := snapshots[int(which)%len(snapshots)]
		d, findings := pdp.Explain(s, c, pdp.At{Now: morning})
		if got := pdp.Decide(s, c, pdp.At{Now: morning}); got != d {
			t.Fatalf("Explain says %v, and Decide %v", d, got)
		}
		applies := func(reason pdp.Reason) func(pdp.Finding) bool {
			return func(f pdp.Finding) bool { return f.Applies && f.Reason == reason }
		}
		if d.Reason == pdp.ArgumentsInvalid {
			d.Allow = true // what grants say of it
		}
		if want := slices.ContainsFunc(findings, applies(pdp.Granted)) && !slices.ContainsFunc(findings, applies(pdp.Forbidden)); d.Allow != want {
			t.Fatalf("%v of %v", d, findings)
		}
		if d.Allow && session != "" && s.Session(session) == nil {
			t.Fatalf("%v, and there is no such session", d)
		}
		if d.Allow && c.Kind == pdp.Resource && grant.URIProblem(name) != "" {
			t.Fatalf("%v, and %q can be read in several ways", d, name)
		}
		if d.Allow && s.Server(server) == nil || d.Allow && c.Kind == pdp.Tool && s.Tool(server, name) == nil {
			t.Fatalf("%v, and it is not in the catalogue", d)
		}
	})
}
