package replica

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// bounded returns a snapshot in which the agent may call tool 0 of the server s,
// tool 1, and so on, each by a grant with the bound of its place; 0 is none.
func bounded(tb testing.TB, revision int64, bounds ...time.Duration) *grant.Snapshot {
	tb.Helper()
	var entries []grant.Entry
	add := func(e grant.Entry, err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		entries = append(entries, e)
	}
	add(grant.ParseEntry(&grantv1.Agent{Name: "namespaces/shop/agents/a", State: grantv1.Agent_ACTIVE}, revision))
	add(grant.ParseEntry(&grantv1.Server{
		Name:     grant.ServerName("shop", "s"),
		Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "https://s.example/mcp"}},
	}, revision))
	for i, b := range bounds {
		name := fmt.Sprint(i)
		add(grant.ParseEntry(&grantv1.Tool{Name: grant.ToolName("shop", "s", name), Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED}, revision))
		g := &grantv1.Grant{
			Name: grant.GrantName("shop", "g"+name), Effect: grantv1.Grant_ALLOW,
			Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "s/" + name}}},
			ExpireTime: timestamppb.New(time.Now().Add(1000 * time.Hour)),
		}
		if b != 0 {
			g.FreshnessBound = durationpb.New(b)
		}
		add(grant.ParseEntry(g, revision))
	}
	return grant.Empty().Apply(revision, entries, nil)
}

// allowed returns which of the tools of [bounded] may be called at this moment:
// "+" if one may be, "-" if it is stale.
func allowed(t *testing.T, r *Replica, tools int) (all string) {
	t.Helper()
	v := r.View()
	at, live := v.At()
	for i := range tools {
		d := pdp.Decide(v.Snapshot, pdp.Call{Kind: pdp.Tool, Server: "s", Name: fmt.Sprint(i)}, at)
		switch {
		case d.Allow && !live:
			t.Error("allowed by what is not live")
		case d.Allow:
			all += "+"
		case d.Reason == pdp.Stale:
			all += "-"
		default:
			t.Errorf("denied as %s", d.Reason)
		}
	}
	return all
}

// P2: grants with bounds of their own beside those without: each ends at its own
// bound, counted from when the answered request was made, to the nanosecond.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		if err := r.Publish(bounded(t, 1, 0, time.Second, 2*time.Second, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := allowed(t, r, 4); got != "----" {
			t.Errorf("before anything was heard: %s", got)
		}
		asked := m.clock()
		time.Sleep(300 * time.Millisecond)
		r.Extend(asked, 10*time.Second, time.Minute, time.Now())
		for _, c := range []struct {
			age           time.Duration
			before, after string
		}{
			{time.Second, "++++", "+-++"},
			{2 * time.Second, "+-++", "+--+"},
			{10 * time.Second, "+--+", "---+"},
			{time.Minute, "---+", "----"},
		} {
			time.Sleep(c.age - 1 - (m.clock() - asked))
			if got := allowed(t, r, 4); got != c.before {
				t.Errorf("just before %s: %s, want %s", c.age, got, c.before)
			}
			time.Sleep(time.Nanosecond)
			if got := allowed(t, r, 4); got != c.after {
				t.Errorf("at %s: %s, want %s", c.age, got, c.after)
			}
		}
		r.Extend(m.clock(), 10*time.Second, time.Minute, time.Now())
		if got := allowed(t, r, 4); got != "++++" {
			t.Errorf("after another answer: %s", got)
		}
	})
}

// P2: what is open is cut at every bound that passes, at the instant, and not in
// between.
func TestCutAtEveryBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		var asked time.Duration
		var cuts []time.Duration
		r.OnCut(func(*View) { cuts = append(cuts, m.clock()-asked) })
		if err := r.Publish(bounded(t, 1, 0, time.Second, 2100*time.Millisecond, 2100*time.Millisecond, time.Minute)); err != nil {
			t.Fatal(err)
		}
		stop := m.run(t, r)
		for range 2 {
			cuts = nil
			asked = m.clock()
			r.Extend(asked, 10*time.Second, time.Minute, time.Now())
			time.Sleep(time.Hour)
			synctest.Wait()
			want := []time.Duration{time.Second, 2100 * time.Millisecond, 10 * time.Second, time.Minute}
			if fmt.Sprint(cuts) != fmt.Sprint(want) {
				t.Errorf("cut at %v, want %v", cuts, want)
			}
		}

		// A grant that comes later brings its own bound, and an answer defers all.
		cuts = nil
		asked = m.clock()
		r.Extend(asked, 10*time.Second, 0, time.Now())
		time.Sleep(500 * time.Millisecond)
		if err := r.Publish(bounded(t, 2, 3*time.Second)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2123 * time.Millisecond)
		asked = m.clock()
		r.Extend(asked, 10*time.Second, 0, time.Now())
		time.Sleep(time.Minute)
		synctest.Wait()
		// The first is that of Publish.
		if want := "[500ms 3s 10s]"; fmt.Sprint(cuts) != want {
			t.Errorf("cut at %v, want %s", cuts, want)
		}
		stop()
	})
}

// P2: an answer is good for no more than has been held all the time since: a grant
// that names a long bound, comes after another such one has gone, and finds the
// answer that spoke of that one, waits for the next.
func TestLongAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		answer := func() {
			time.Sleep(time.Nanosecond)
			r.Extend(m.clock(), 10*time.Second, time.Minute, time.Now())
		}
		for revision, c := range []struct {
			step       string
			held, want time.Duration
		}{
			{"answered", time.Minute, time.Minute},
			{"gone", 0, 10 * time.Second},
			{"come again", time.Minute, 10 * time.Second},
			{"answered", time.Minute, time.Minute},
			{"gone", 0, 10 * time.Second},
			{"answered", 0, 10 * time.Second}, // to one that held more, as it was then
			{"come again", time.Minute, 10 * time.Second},
		} {
			if err := r.Publish(bounded(t, int64(revision), c.held)); err != nil {
				t.Fatal(err)
			}
			if c.step == "answered" {
				answer()
			}
			if left := r.View().StaleIn(); left != c.want {
				t.Errorf("step %d, %s: good for %s, want %s", revision, c.step, left, c.want)
			}
		}
	})
}

// P2: a grant that comes after the answer, and names a longer bound than that
// spoke of, is not acted on for longer than that allows. The next answer, granted
// to one that holds it, allows all of it.
func TestLongerThanAnswered(t *testing.T) {
	for _, c := range []struct{ longest, want time.Duration }{
		{0, 10 * time.Second}, {2 * time.Second, 10 * time.Second}, {20 * time.Second, 20 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine()
			r := m.replica()
			var asked time.Duration
			var cuts []time.Duration
			r.OnCut(func(*View) { cuts = append(cuts, m.clock()-asked) })
			_ = r.Publish(bounded(t, 1, 0, c.longest))
			stop := m.run(t, r)
			asked = m.clock()
			r.Extend(asked, 10*time.Second, c.longest, time.Now())
			if err := r.Publish(bounded(t, 2, 0, time.Minute)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.want - 1)
			if got := allowed(t, r, 2); got[1] != '+' || r.View().StaleIn() != 1 {
				t.Errorf("just before %s: %s", c.want, got)
			}
			time.Sleep(time.Nanosecond)
			if got := allowed(t, r, 2); got != "--" || r.View().StaleIn() != 0 {
				t.Errorf("at %s: %s", c.want, got)
			}
			synctest.Wait()
			if n := len(cuts); n == 0 || cuts[n-1] != c.want {
				t.Errorf("cut at %v, want the last at %s", cuts, c.want)
			}
			cuts, asked = nil, m.clock()
			r.Extend(asked, 10*time.Second, time.Minute, time.Now())
			time.Sleep(time.Minute - 1)
			if got := allowed(t, r, 2); got != "-+" {
				t.Errorf("after the next answer: %s", got)
			}
			time.Sleep(time.Hour)
			if want := "[10s 1m0s]"; fmt.Sprint(cuts) != want {
				t.Errorf("cut at %v, want %s", cuts, want)
			}
			stop()
		})
	}
}

// run runs r until the test calls stop, which wants it to have ended well.
func (m *machine) run(t *testing.T, r *Replica) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// P2: an answer counts from when its own request was made. One that comes late,
// or after the answer to a later request, neither extends nor shortens anything.
func TestAnswersOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		r := m.replica()
		_ = r.Publish(bounded(t, 1, 0))
		first := m.clock()
		time.Sleep(time.Second)
		second := m.clock()
		time.Sleep(time.Second)
		r.Extend(second, 10*time.Second, 0, time.Now())
		r.Extend(first, 10*time.Minute, 0, time.Now())
		r.Extend(second, 10*time.Minute, 0, time.Now())
		r.Extend(m.clock()+time.Minute, 10*time.Minute, 0, time.Now()) // not of this world
		if left := r.View().FreshFor(); left != 9*time.Second {
			t.Errorf("fresh for %s, want 9s", left)
		}
		// A later answer may shorten: the bound was lowered.
		r.Extend(m.clock(), 3*time.Second, 0, time.Now())
		if left := r.View().FreshFor(); left != 3*time.Second {
			t.Errorf("fresh for %s, want 3s", left)
		}
	})
}

// Against a model: whatever happens in whatever order, the replica is as fresh as
// the answer to the latest request since it last lapsed lets it be, whatever is
// held, and "now" never falls.
func TestFreshnessIsThatOfTheLatestRequest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		boot := time.Hour
		day := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
		r := newReplica(func() time.Duration { return boot }, func() time.Time { return day })
		held := time.Duration(0)
		type request struct{ at, bound, longest time.Duration }
		var open []request
		var newest *request
		var lapsed time.Duration
		var floor time.Time
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"hold", "ask", "answer", "answer", "wait", "wait", "lapse"}).Draw(rt, "step") {
			case "hold":
				held = time.Duration(rapid.Int64Range(0, 30).Draw(rt, "held")) * time.Second
				_ = r.Publish(bounded(t, 1, held))
				if newest != nil {
					newest.longest = min(newest.longest, held)
				}
			case "ask":
				open = append(open, request{
					boot,
					time.Duration(rapid.Int64Range(1, 20).Draw(rt, "bound")) * time.Second,
					time.Duration(rapid.Int64Range(0, 30).Draw(rt, "longest")) * time.Second,
				})
			case "answer":
				if len(open) == 0 {
					continue
				}
				a := rapid.SampledFrom(open).Draw(rt, "request")
				told := day.Add(time.Duration(rapid.Int64Range(-60, 60).Draw(rt, "told")) * time.Second)
				r.Extend(a.at, a.bound, a.longest, told)
				if a.at > lapsed && (newest == nil || a.at > newest.at) {
					a.longest = min(a.longest, held)
					newest = &a
				}
			case "wait":
				d := time.Duration(rapid.Int64Range(1, int64(5*time.Second)).Draw(rt, "wait"))
				boot, day = boot+d, day.Add(d)
			case "lapse":
				r.Lapse()
				newest, lapsed = nil, boot
			}
			at, live := r.View().At()
			want := newest != nil && boot-newest.at < min(max(newest.bound, held), max(newest.bound, newest.longest))
			if live != want || live && at.Age != boot-newest.at {
				rt.Fatalf("live: %t at age %s, want %t of %+v", live, at.Age, want, newest)
			}
			if at.Now.Before(floor) || at.Now.Before(day) {
				rt.Fatalf("now fell to %s", at.Now)
			}
			floor = at.Now
		}
	})
}
