// Package script makes schedules: what goes wrong with a cluster, and what is
// revoked meanwhile.
package script

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// A Schedule is what goes wrong, and what is revoked meanwhile.
type Schedule struct {
	Title       string
	Faults      []*Fault
	Revocations []*Revocation
	// Sessions are started, and agents call in them until all is well again.
	Sessions []*Session
	// Limited are grants with limits, which are of this schedule only.
	Limited []*grantv1.Grant
	// Calm is taken before anything goes wrong; nil for nothing.
	Calm *Revocation
	// Slow is whether the grant with a long bound is there.
	Slow bool
	// Restore is whether the store is put back to what it was at the schedule's
	// beginning, when all is revoked.
	Restore bool
	// Registers is whether clients write and read grants of nobody's meanwhile,
	// to see whether the admin API is linearizable.
	Registers bool
	// Dwell is how long agents go on calling when all is revoked and faults are
	// over.
	Dwell time.Duration
}

const (
	// restoreEvery and calmEvery are how many schedules there are for each that
	// restores a store, and for each in which something is taken before anything
	// goes wrong.
	restoreEvery = 12
	calmEvery    = 3
	// The grant with a long bound is in every other one of the last slowOf in
	// slowEvery schedules: waits may take as long as its bound for a while after it,
	// and in all the others they may not.
	slowEvery = 100
	slowOf    = 12
)

// New returns the schedule of a number. The same seed makes the same
// one, of the same kind of cluster.
func New(seed uint64, number int, c *cluster.Cluster, without []string) *Schedule {
	rng := rand.New(rand.NewPCG(seed, uint64(number))) //nolint:gosec // a schedule need not be a secret
	s := &Schedule{Title: fmt.Sprintf("schedule %d of seed %d", number, seed), Dwell: 100 * time.Millisecond}
	b := &breaker{Cluster: c, rng: rng, used: make(map[string]bool), without: without}
	for n := 1 + rng.IntN(3); len(s.Faults) < n; {
		f := b.random()
		if f == nil {
			continue
		}
		f.At = between(rng, 0, 250*time.Millisecond)
		f.Lasts = between(rng, 200*time.Millisecond, 1500*time.Millisecond)
		s.Faults = append(s.Faults, f)
	}
	for range 1 + rng.IntN(4) {
		s.Revocations = append(s.Revocations, newRevocation(rng))
	}
	s.Sessions, s.Limited = newSessions(rng, len(c.Replicas)), newLimited(rng, number)
	for range 1 + rng.IntN(2) {
		s.Revocations = append(s.Revocations, ending(rng, s.Sessions))
	}
	if s.Slow = number%slowEvery >= slowEvery-slowOf && number%2 == 0; s.Slow {
		s.Revocations = append(s.Revocations, slowDeletion())
	}
	s.Restore = c.Etcd == nil && number%restoreEvery == restoreEvery-1
	s.Registers = !s.Restore
	for _, r := range s.Revocations {
		r.At = between(rng, 50*time.Millisecond, 500*time.Millisecond)
		r.Through, r.Waiter = rng.IntN(len(c.Replicas)), rng.IntN(len(c.Replicas))
	}
	if number%calmEvery == 0 {
		s.Calm = deletion(rng)
		s.Calm.Through, s.Calm.Waiter = rng.IntN(len(c.Replicas)), rng.IntN(len(c.Replicas))
	}
	return s
}

// String returns the schedule as a script.
func (s *Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:\n", s.Title)
	if s.Slow {
		b.WriteString("         with a grant of a long bound\n")
	}
	if s.Calm != nil {
		fmt.Fprintf(&b, "  before: take %s through r%d, wait at r%d\n", s.Calm.Name, s.Calm.Through, s.Calm.Waiter)
	}
	for _, one := range s.Sessions {
		fmt.Fprintf(&b, "  %v\n", one)
	}
	for _, g := range s.Limited {
		fmt.Fprintf(&b, "  before: give %s, %v\n", g.GetName(), g.GetLimits())
	}
	for _, f := range s.Faults {
		fmt.Fprintf(&b, "  %v\n", f)
	}
	for _, r := range s.Revocations {
		fmt.Fprintf(&b, "  %v\n", r)
	}
	if s.Restore {
		b.WriteString("         then restore the store\n")
	}
	return b.String()
}
