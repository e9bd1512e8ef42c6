package pdp_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// TestAgeNeverPermits holds P2: what is denied at one age is denied at every
// higher one, and what is hidden stays hidden.
func TestAgeNeverPermits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		s := someWorld(r).snapshot(t)
		for _, q := range questions(t, r) {
			c, old := q.call, q
			old.age += time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(rt, "older by"))
			if was, is := pdp.Decide(s, c, q.asked()), pdp.Decide(s, c, old.asked()); is.Allow && !was.Allow {
				rt.Fatalf("%v: %v at %s, and %v at %s", c, was, q.age, is, old.age)
			}
			was := pdp.Visible(s, c, q.asked())
			if is := pdp.Visible(s, c, old.asked()); is && !was {
				rt.Fatalf("%v is hidden at %s, and listed at %s", c, q.age, old.age)
			}
			if was, is := pdp.Admit(s, c, q.asked()), pdp.Admit(s, c, old.asked()); is.Allow && !was.Allow {
				rt.Fatalf("%s: %v at %s, and %v at %s", c.Server, was, q.age, is, old.age)
			}
		}
	})
}

// TestForbidIsNeverStale holds P2: what is forbidden when everything is fresh is
// forbidden by the same grant at any age, until nothing is relied on.
func TestForbidIsNeverStale(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := source(rt)
		s := someWorld(r).snapshot(t)
		for _, q := range questions(t, r) {
			fresh := q
			fresh.age = 0
			want := pdp.Decide(s, q.call, fresh.asked())
			if want.Reason != pdp.Forbidden {
				continue
			}
			if q.age >= max(bound, s.LongestBound()) || q.longest > 0 && q.age >= q.longest {
				want = pdp.Decision{Reason: pdp.Stale, Revision: s.Revision(), Session: want.Session}
			}
			if got := pdp.Decide(s, q.call, q.asked()); got != want {
				rt.Fatalf("%v at %s: got %v, want %v", q.call, q.age, got, want)
			}
		}
	})
}
