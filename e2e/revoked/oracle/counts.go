package oracle

import (
	"fmt"
	"slices"
	"time"
)

// A Session is one that agents were told of.
type Session struct {
	// Name is its resource name, and Schedule what it was made for.
	Name, Schedule string
	// Until is when the store was put back to a backup, which may not know who
	// claimed it; zero if it never was.
	Until time.Time
}

// A Limit is how many calls may be allowed in a session or under a grant.
type Limit struct {
	// Name is the resource name of the session or the grant, and Schedule what it
	// was made for.
	Name, Schedule string
	Max            int
	// BySidecar and ByAgent say whose calls are counted together; neither is for
	// everybody's.
	BySidecar, ByAgent bool
	// Until is from when on the count is not judged, for it is one that was made
	// before; zero is never.
	Until time.Time
}

// A Sum is what was counted under one limit.
type Sum struct {
	// Most is the most that was counted together.
	Most int
	// Wrong has a sentence if that is more than may be, or if what was counted is
	// nobody's.
	Wrong []string
}

// A Wrong is a sentence about what must not be, and the schedule that it was in;
// empty if that is not known.
type Wrong struct{ Sentence, Schedule string }

// before reports whether an instant is judged.
func before(at, until time.Time) bool { return until.IsZero() || at.Before(until) }

// Claims returns a sentence for each session in which calls through two sidecars
// were allowed: it is claimed by the enrolled key of one.
func Claims(sessions []Session, allows []Allow) []Wrong {
	first := make(map[string]Allow)
	until := make(map[string]Session, len(sessions))
	for _, s := range sessions {
		until[s.Name] = s
	}
	told := make(map[string]bool)
	var wrong []Wrong
	for _, a := range allows {
		s, known := until[a.Session]
		if a.Session == "" || told[a.Session] || known && !before(a.Time, s.Until) {
			continue
		}
		f, ok := first[a.Session]
		if !ok {
			first[a.Session], f = a, a
		}
		switch {
		case a.Sidecar == Nobody:
			wrong = append(wrong, Wrong{fmt.Sprintf("decision %s in %s is of a call that nobody made in it", a.ID, a.Session), s.Schedule})
		case a.Sidecar != f.Sidecar:
			wrong = append(wrong, Wrong{fmt.Sprintf("decisions %s and %s allowed calls through s%d and s%d, both in %s, of %s",
				f.ID, a.ID, f.Sidecar, a.Sidecar, a.Session, s.Schedule), s.Schedule})
		default:
			continue
		}
		told[a.Session] = true
	}
	return wrong
}

// Count counts what was allowed under each limit. What was never sent is given
// back: that is what was withdrawn, and what came to nothing and did not arrive.
func Count(limits []Limit, allows []Allow, arrivals []Arrival) []Sum {
	arrived := make(map[string]bool, len(arrivals))
	for _, a := range arrivals {
		arrived[a.Digest] = true
	}
	under := make(map[string][]Allow)
	seen := make(map[string]bool)
	for _, a := range allows {
		if a.Grant == "" && a.Session == "" || seen[a.ID] || a.Withdrawn || a.Broken && !arrived[a.Digest] {
			continue
		}
		seen[a.ID] = true
		under[a.Grant] = append(under[a.Grant], a)
		if a.Session != "" {
			under[a.Session] = append(under[a.Session], a)
		}
	}
	sums := make([]Sum, len(limits))
	for i, l := range limits {
		sums[i] = l.count(under[l.Name])
	}
	return sums
}

func (l *Limit) count(allows []Allow) (s Sum) {
	type whose struct {
		agent   string
		sidecar int
	}
	together := make(map[whose][]string)
	for _, a := range allows {
		if !before(a.Time, l.Until) {
			continue
		}
		if a.Sidecar == Nobody {
			s.Wrong = append(s.Wrong, fmt.Sprintf("decision %s under %s is of a call that nobody made", a.ID, l.Name))
		}
		var w whose
		if l.BySidecar {
			w.sidecar = a.Sidecar
		}
		if l.ByAgent {
			w.agent = a.Agent
		}
		together[w] = append(together[w], a.ID)
		s.Most = max(s.Most, len(together[w]))
	}
	for w, ids := range together {
		if len(ids) <= l.Max {
			continue
		}
		slices.Sort(ids)
		s.Wrong = append(s.Wrong, fmt.Sprintf("%d calls were allowed under %s, whose limit is %d (s%d, agent %q), of %s: %v",
			len(ids), l.Name, l.Max, w.sidecar, w.agent, l.Schedule, ids))
	}
	return s
}
