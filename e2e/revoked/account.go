package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
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

// finish holds all that was allowed and all that arrived against all that was
// taken: records of a sidecar that was killed follow when it is back.
func (r *runner) finish(ctx context.Context) (allowed int, late, unrecorded []string, err error) {
	arrivals, _ := r.Arrivals(make([]int, len(r.Journals)))
	for deadline := time.Now().Add(recovery); ; pause(ctx, 200*time.Millisecond) {
		allows, err := r.allows(ctx, time.Time{})
		if err != nil {
			return 0, nil, nil, err
		}
		if unrecorded = oracle.Unrecorded(allows, arrivals); len(unrecorded) > 0 && time.Now().Before(deadline) {
			continue
		}
		for _, sentence := range oracle.Late(r.revocations, allows, arrivals) {
			if !r.late[sentence] {
				r.late[sentence] = true
				late = append(late, sentence)
			}
		}
		return len(allows), late, unrecorded, nil
	}
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
