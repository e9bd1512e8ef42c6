package oracle_test

import (
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
)

var (
	began = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	mine  = oracle.Unit{Agent: "a", Target: "s/d0"}
	other = oracle.Unit{Agent: "b", Target: "s/d0"}
)

func at(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }

// TestLate: P2's oracle. From the return to the restoring nothing of what was
// taken may be decided; a call may be on its way for a moment.
func TestLate(t *testing.T) {
	t.Parallel()
	taken := &oracle.Revocation{Name: "r", Covers: map[oracle.Unit]bool{mine: true}, Returned: at(1000), Restored: at(3000)}
	for _, c := range []struct {
		name     string
		allows   []oracle.Allow
		arrivals []oracle.Arrival
		late     int
	}{
		{"before", []oracle.Allow{{Unit: mine, Time: at(999)}}, []oracle.Arrival{{Unit: mine, Time: at(999)}}, 0},
		{"at the return", []oracle.Allow{{Unit: mine, Time: at(1000)}}, nil, 0},
		{"decided after", []oracle.Allow{{Unit: mine, Time: at(1001)}}, nil, 1},
		{"recorded after, withdrawn", []oracle.Allow{{Unit: mine, Time: at(1050), Withdrawn: true}}, nil, 0},
		{"decided after, withdrawn", []oracle.Allow{{Unit: mine, Time: at(1051), Withdrawn: true}}, nil, 1},
		{"another's", []oracle.Allow{{Unit: other, Time: at(1001)}}, []oracle.Arrival{{Unit: other, Time: at(2000)}}, 0},
		{"on its way", nil, []oracle.Arrival{{Unit: mine, Time: at(1250)}}, 0},
		{"arrived late", nil, []oracle.Arrival{{Unit: mine, Time: at(1251)}}, 1},
		{"restored", []oracle.Allow{{Unit: mine, Time: at(3000)}}, []oracle.Arrival{{Unit: mine, Time: at(3001)}}, 0},
	} {
		if got := oracle.Late([]*oracle.Revocation{taken}, c.allows, c.arrivals); len(got) != c.late {
			t.Errorf("%s: %d late %q, want %d", c.name, len(got), got, c.late)
		}
	}
}

// TestUnrecorded: P3's oracle.
func TestUnrecorded(t *testing.T) {
	t.Parallel()
	arrival := []oracle.Arrival{{Unit: mine, ID: "1", Digest: "x"}}
	for _, c := range []struct {
		name   string
		record oracle.Allow
		wrong  int
	}{
		{"recorded", oracle.Allow{Unit: mine, Digest: "x"}, 0},
		{"no such call", oracle.Allow{Unit: mine, Digest: "y"}, 1},
		{"another agent's", oracle.Allow{Unit: other, Digest: "x"}, 1},
		{"withdrawn", oracle.Allow{Unit: mine, Digest: "x", Withdrawn: true}, 1},
	} {
		if got := oracle.Unrecorded([]oracle.Allow{c.record}, arrival); len(got) != c.wrong {
			t.Errorf("%s: %q, want %d", c.name, got, c.wrong)
		}
	}
}
