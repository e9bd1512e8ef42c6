package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	"github.com/reeve-authz/reeve/e2e/revoked/script"
)

// check holds what was allowed since an instant against what was taken.
func (r *runner) check(ctx context.Context, since time.Time, taken []*oracle.Revocation) (late []string, err error) {
	r.revocations = append(r.revocations, taken...)
	allows, err := r.allows(ctx, since)
	if err != nil {
		return nil, err
	}
	arrivals, seen := r.Arrivals(r.seen)
	r.seen = seen
	for _, sentence := range oracle.Late(taken, allows, arrivals) {
		if !r.late[sentence] {
			r.late[sentence] = true
			late = append(late, sentence)
		}
	}
	return late, nil
}

func (r *runner) allows(ctx context.Context, since time.Time) (allows []oracle.Allow, err error) {
	deadline := time.Now().Add(recovery)
	for i := 0; time.Now().Before(deadline); i++ {
		if allows, err = r.Allows(ctx, i, since); err == nil {
			return allows, nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	return nil, err
}

// A verdict is what came of all schedules on one cluster.
type verdict struct {
	allows int
	// late are sentences of what P2 forbids, and wrong of what else is wrong.
	late, wrong []string
	// work says what was done in sessions and under limits, for people.
	work string
}

// finish holds all that was allowed and all that arrived against all that was
// taken, claimed and limited: records of a sidecar that was killed follow when it
// is back.
func (r *runner) finish(ctx context.Context) (v verdict, err error) {
	arrivals, _ := r.Arrivals(make([]int, len(r.Journals)))
	// On a busy machine one reading of the whole log takes longer than records may:
	// what was missing in one is looked for in others that begin later.
	deadline := time.Now().Add(recovery)
	for readings := 1; ; readings++ {
		pause(ctx, 500*time.Millisecond)
		allows, err := r.allows(ctx, time.Time{})
		if err != nil {
			return v, err
		}
		unrecorded := oracle.Unrecorded(allows, arrivals)
		if len(unrecorded) > 0 && (readings < 3 || time.Now().Before(deadline)) {
			continue
		}
		for _, sentence := range unrecorded {
			v.wrong = append(v.wrong, "P3: "+sentence)
		}
		for _, sentence := range oracle.Late(r.revocations, allows, arrivals) {
			if !r.late[sentence] {
				r.late[sentence] = true
				v.late = append(v.late, sentence)
			}
		}
		v.allows = len(allows)
		r.audit(&v, allows, arrivals)
		return v, nil
	}
}

// audit holds what was allowed in sessions and under limits against who claimed
// them, and how many may be.
func (r *runner) audit(v *verdict, allows []oracle.Allow, arrivals []oracle.Arrival) {
	var sessions []oracle.Session
	var limits []oracle.Limit
	scripts := make(map[string]*script.Schedule)
	for _, s := range r.played {
		judged, limited := s.Judged(r.restored[s])
		sessions, limits = append(sessions, judged...), append(limits, limited...)
		scripts[s.Title] = s
	}
	red := make(map[string]bool) // titles of schedules
	for _, w := range oracle.Claims(sessions, allows) {
		v.wrong, red[w.Schedule] = append(v.wrong, "CLAIMED TWICE: "+w.Sentence), true
	}
	used, inSessions, called := 0, 0, make(map[string]bool)
	for i, sum := range oracle.Count(limits, allows, arrivals) {
		for _, sentence := range sum.Wrong {
			v.wrong, red[limits[i].Schedule] = append(v.wrong, "OVER A LIMIT: "+sentence), true
		}
		if sum.Most >= limits[i].Max {
			used++
		}
	}
	for title := range red {
		if s := scripts[title]; s != nil {
			v.wrong = append(v.wrong, "in "+s.String())
		}
	}
	ended := make(map[string]bool)
	for _, t := range r.revocations {
		for name := range t.Sessions {
			ended[name] = true
		}
	}
	for _, a := range allows {
		if a.Session != "" {
			inSessions++
			called[a.Session] = true
		}
	}
	v.work = fmt.Sprintf("%d sessions, %d of them ended amid faults, %d called in, %d times; %d limits, %d of them used up",
		len(sessions), len(ended), len(called), inSessions, len(limits), used)
}

// tails are the last lines of every process.
func (r *runner) tails() string {
	var b strings.Builder
	for i, p := range r.Replicas {
		fmt.Fprintf(&b, "r%d:\n%s", i, p.Tail(15))
	}
	for i, p := range r.Sidecars {
		fmt.Fprintf(&b, "s%d:\n%s", i, p.Tail(8))
	}
	return b.String()
}
