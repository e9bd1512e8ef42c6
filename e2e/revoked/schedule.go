package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
)

// A schedule is what goes wrong, and what is revoked meanwhile.
type schedule struct {
	title       string
	faults      []*fault
	revocations []*revocation
	// slow is whether the grant with a long bound is there.
	slow bool
	// restore is whether the store is put back to what it was at the schedule's
	// beginning, when all is revoked.
	restore bool
	// registers is whether clients write and read grants of nobody's meanwhile,
	// to see whether the admin API is linearizable.
	registers bool
	// dwell is how long agents go on calling when all is revoked and faults are
	// over.
	dwell time.Duration
}

// slowEvery and restoreEvery are how many schedules there are for each that has
// the grant with a long bound, and for each that restores a store.
const (
	slowEvery    = 12
	restoreEvery = 12
)

// newSchedule returns the schedule of a number. The same seed makes the same
// one, of the same kind of cluster.
func newSchedule(seed uint64, number int, c *cluster.Cluster, without []string) *schedule {
	rng := rand.New(rand.NewPCG(seed, uint64(number))) //nolint:gosec // a schedule need not be a secret
	s := &schedule{title: fmt.Sprintf("schedule %d of seed %d", number, seed), dwell: 100 * time.Millisecond}
	b := &breaker{Cluster: c, rng: rng, used: make(map[string]bool), without: without}
	for n := 1 + rng.IntN(3); len(s.faults) < n; {
		f := b.random()
		if f == nil {
			continue
		}
		f.at = between(rng, 0, 250*time.Millisecond)
		f.lasts = between(rng, 200*time.Millisecond, 1500*time.Millisecond)
		s.faults = append(s.faults, f)
	}
	for range 1 + rng.IntN(4) {
		s.revocations = append(s.revocations, newRevocation(rng))
	}
	if s.slow = number%slowEvery == slowEvery/2; s.slow {
		s.revocations = append(s.revocations, slowDeletion())
	}
	s.restore = c.Etcd == nil && number%restoreEvery == restoreEvery-1
	s.registers = !s.restore
	for _, r := range s.revocations {
		r.at = between(rng, 50*time.Millisecond, 500*time.Millisecond)
		r.through, r.waiter = rng.IntN(len(c.Replicas)), rng.IntN(len(c.Replicas))
	}
	return s
}

// String returns the schedule as a script.
func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:\n", s.title)
	if s.slow {
		b.WriteString("         with a grant of a long bound\n")
	}
	for _, f := range s.faults {
		fmt.Fprintf(&b, "  %v\n", f)
	}
	for _, r := range s.revocations {
		fmt.Fprintf(&b, "  %v\n", r)
	}
	if s.restore {
		b.WriteString("         then restore the store\n")
	}
	return b.String()
}
