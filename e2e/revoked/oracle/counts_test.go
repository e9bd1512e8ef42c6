package oracle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
)

const (
	run   = "namespaces/lab/agents/a/sessions/s-1"
	grant = "namespaces/lab/grants/limited"
)

// TestLateInSessions: P2's oracle, for sessions. One that has ended goes on by a
// restore alone.
func TestLateInSessions(t *testing.T) {
	t.Parallel()
	ended := &oracle.Revocation{Name: "r", Sessions: map[string]bool{run: true}, Returned: at(1000)}
	for _, c := range []struct {
		name     string
		allows   []oracle.Allow
		arrivals []oracle.Arrival
		late     int
	}{
		{"before", []oracle.Allow{{Unit: mine, Session: run, Time: at(1000)}}, nil, 0},
		{"decided after", []oracle.Allow{{Unit: mine, Session: run, Time: at(1001)}}, nil, 1},
		{"decided after, another target", []oracle.Allow{{Unit: other, Session: run, Time: at(9000)}}, nil, 1},
		{"in another session", []oracle.Allow{{Unit: mine, Session: run + "0", Time: at(1001)}}, nil, 0},
		{"in none", []oracle.Allow{{Unit: mine, Time: at(1001)}}, nil, 0},
		{"on its way", nil, []oracle.Arrival{{Unit: mine, Session: run, Time: at(1250)}}, 0},
		{"arrived late", nil, []oracle.Arrival{{Unit: mine, Session: run, Time: at(1251)}}, 1},
	} {
		if got := oracle.Late([]*oracle.Revocation{ended}, c.allows, c.arrivals); len(got) != c.late {
			t.Errorf("%s: %d late %q, want %d", c.name, len(got), got, c.late)
		}
	}
}

// TestRecordedInAnotherSession: P3's oracle.
func TestRecordedInAnotherSession(t *testing.T) {
	t.Parallel()
	arrival := []oracle.Arrival{{Unit: mine, Digest: "x", Session: run}}
	for session, wrong := range map[string]int{run: 0, "": 1, run + "0": 1} {
		if got := oracle.Unrecorded([]oracle.Allow{{Unit: mine, Digest: "x", Session: session}}, arrival); len(got) != wrong {
			t.Errorf("recorded in %q: %q, want %d", session, got, wrong)
		}
	}
}

// TestClaims: a session is one sidecar's.
func TestClaims(t *testing.T) {
	t.Parallel()
	in := func(session string, sidecar, ms int) oracle.Allow {
		return oracle.Allow{Unit: mine, Session: session, Sidecar: sidecar, Time: at(ms)}
	}
	for _, c := range []struct {
		name   string
		until  time.Time
		allows []oracle.Allow
		wrong  int
	}{
		{"one sidecar", time.Time{}, []oracle.Allow{in(run, 0, 1), in(run, 0, 2)}, 0},
		{"two", time.Time{}, []oracle.Allow{in(run, 0, 1), in(run, 1, 2), in(run, 1, 3)}, 1},
		{"two, in sessions of their own", time.Time{}, []oracle.Allow{in(run, 0, 1), in(run+"0", 1, 2)}, 0},
		{"two, in none", time.Time{}, []oracle.Allow{in("", 0, 1), in("", 1, 2)}, 0},
		{"two, in a session that nobody was told of", time.Time{}, []oracle.Allow{in(run+"0", 0, 1), in(run+"0", 1, 2)}, 1},
		{"nobody", time.Time{}, []oracle.Allow{in(run, oracle.Nobody, 1)}, 1},
		{"another after a restore", at(2), []oracle.Allow{in(run, 0, 1), in(run, 1, 3)}, 0},
		{"two before a restore", at(3), []oracle.Allow{in(run, 0, 1), in(run, 1, 2)}, 1},
	} {
		if got := oracle.Claims([]oracle.Session{{Name: run, Until: c.until}}, c.allows); len(got) != c.wrong {
			t.Errorf("%s: %q, want %d", c.name, got, c.wrong)
		}
	}
}

// TestCount: a limit is never exceeded, by whomever it is shared.
func TestCount(t *testing.T) {
	t.Parallel()
	by := func(id string, agent string, sidecar int) oracle.Allow {
		return oracle.Allow{
			Unit: oracle.Unit{Agent: agent, Target: "s/q0"}, ID: id, Digest: id, Grant: grant, Sidecar: sidecar, Time: at(1),
		}
	}
	change := func(a oracle.Allow, to func(*oracle.Allow)) oracle.Allow { to(&a); return a }
	three := []oracle.Allow{by("1", "a", 0), by("2", "a", 1), by("3", "b", 2)}
	for _, c := range []struct {
		name   string
		limit  oracle.Limit
		allows []oracle.Allow
		most   int
		wrong  string
	}{
		{"all, just", oracle.Limit{Max: 3}, three, 3, ""},
		{"all", oracle.Limit{Max: 2}, three, 3, "3 calls"},
		{"by agent, just", oracle.Limit{Max: 2, ByAgent: true}, three, 2, ""},
		{"by agent", oracle.Limit{Max: 1, ByAgent: true}, three, 2, "2 calls"},
		{"by sidecar, just", oracle.Limit{Max: 1, BySidecar: true}, three, 1, ""},
		{"by sidecar", oracle.Limit{Max: 1, BySidecar: true}, append(three, by("4", "a", 0)), 2, "2 calls"},
		{"one record twice", oracle.Limit{Max: 3}, append(three, three[0]), 3, ""},
		{"another grant's", oracle.Limit{Max: 3}, append(three, change(by("4", "a", 0), func(a *oracle.Allow) { a.Grant += "0" })), 3, ""},
		{"withdrawn", oracle.Limit{Max: 3}, append(three, change(by("4", "a", 0), func(a *oracle.Allow) { a.Withdrawn = true })), 3, ""},
		{"came to nothing", oracle.Limit{Max: 3}, append(three, change(by("4", "a", 0), func(a *oracle.Allow) { a.Broken = true })), 3, ""},
		{"broken off, and arrived", oracle.Limit{Max: 3}, append(three, change(by("arrived", "a", 0), func(a *oracle.Allow) { a.Broken = true })), 4, "4 calls"},
		{"after a restore", oracle.Limit{Max: 3, Until: at(2)}, append(three, change(by("4", "a", 0), func(a *oracle.Allow) { a.Time = at(2) })), 3, ""},
		{"nobody's", oracle.Limit{Max: 3}, []oracle.Allow{by("1", "a", oracle.Nobody)}, 1, "nobody made"},
		{"a session's", oracle.Limit{Name: run, Max: 1}, []oracle.Allow{
			change(by("1", "a", 0), func(a *oracle.Allow) { a.Session = run }),
			change(by("2", "a", 0), func(a *oracle.Allow) { a.Session, a.Grant = run, "another" }),
		}, 2, "2 calls"},
	} {
		if c.limit.Name == "" {
			c.limit.Name = grant
		}
		sums := oracle.Count([]oracle.Limit{c.limit}, c.allows, []oracle.Arrival{{Digest: "arrived"}})
		if got := strings.Join(sums[0].Wrong, "\n"); sums[0].Most != c.most || (c.wrong == "") != (got == "") || !strings.Contains(got, c.wrong) {
			t.Errorf("%s: most %d, want %d; wrong %q, want %q", c.name, sums[0].Most, c.most, got, c.wrong)
		}
	}
}
