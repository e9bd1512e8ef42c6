// Command decide measures decisions, and what it takes to load grants and to
// change one, beside a map of Go closures and beside cel-go with a program for
// each grant. All do the same seeded work and are compared with an oracle
// first. Engines take turns, round by round, and medians are printed, one line
// each. Decisions are measured in processor time, so that what else the machine
// does counts for less:
//
//	bench <name> <value> <unit> <ratio to anchor> <target of the ratio>
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/reeve-authz/reeve/e2e/bench/workload"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// What design 11 wants: these are the anchors where the goal is a figure.
const (
	goalDecision    = 400 // ns, at 1,000 grants
	goalAllocations = 2
)

func main() {
	rounds := flag.Int("rounds", 15, "rounds in which the engines take turns")
	quick := flag.Bool("quick", false, "run a little of everything and stop at 1,000 grants")
	flag.Parse()
	if err := run(os.Stdout, *rounds, *quick); err != nil {
		fmt.Fprintln(os.Stderr, "bench decide:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, rounds int, quick bool) error {
	sizes := []int{10, 1_000, 100_000}
	if quick {
		sizes, rounds = sizes[:2], 3
	}
	var stages []*stage
	for _, n := range sizes {
		s, err := newStage(out, n, rounds)
		if err != nil {
			return fmt.Errorf("with %d grants: %w", n, err)
		}
		stages = append(stages, s)
	}
	for range rounds {
		runtime.GC()
		for _, s := range stages {
			s.round()
		}
	}
	for _, s := range stages {
		s.print(out, stages[1])
	}
	return nil
}

func line(out io.Writer, name string, value float64, unit string, ratio float64, target string) {
	_, _ = fmt.Fprintf(out, "bench %s %.4g %s %.3g %s\n", name, value, unit, ratio, target)
}

// A stage is one number of grants, loaded into every engine, and how long
// decisions took them, in nanoseconds, round by round.
type stage struct {
	n       int
	work    *workload.Workload
	engines []engine
	times   map[string][]float64
}

// newStage loads n grants into every engine and compares them with the oracle.
// On the way it prints what loading and one change took.
func newStage(out io.Writer, n, rounds int) (*stage, error) {
	w := workload.New(n)
	messages := w.Messages()
	entries, err := w.Catalogue(false)
	if err != nil {
		return nil, err
	}
	known := grant.Empty().Apply(1, entries, nil)
	floorTime := timed(rounds, func() { loadFloor(w) })
	var held *grant.Snapshot
	ourTime := timed(min(rounds, 5), func() { held, err = workload.Load(known, messages) })
	if err != nil {
		return nil, err
	}
	var cel engine
	celTime := timed(1, func() { cel, err = newCEL(w) })
	if err != nil {
		return nil, err
	}
	line(out, fmt.Sprintf("load-%d", n), ourTime/1e6, "ms", ourTime/floorTime, "-")
	line(out, fmt.Sprintf("load-%d-cel", n), celTime/1e6, "ms", celTime/floorTime, "-")
	changeTime, err := changing(held, w, rounds)
	if err != nil {
		return nil, err
	}
	line(out, fmt.Sprintf("one-change-%d", n), changeTime/1e3, "us", changeTime/ourTime, "-")
	ours, err := newReeve(w, held)
	if err != nil {
		return nil, err
	}
	pinned, err := newPinned(w)
	if err != nil {
		return nil, err
	}
	s := &stage{
		n:       n,
		work:    w,
		engines: []engine{newFloor(w), cel, ours, newReeveParsed(w, held), pinned},
		times:   make(map[string][]float64),
	}
	for _, e := range s.engines {
		if err := check(w, e); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// round gives every engine a turn.
func (s *stage) round() {
	for _, e := range s.engines {
		const passes = 10
		start := cpuTime()
		for range passes {
			for i := range s.work.Requests {
				e.decide(i)
			}
		}
		took := float64((cpuTime() - start).Nanoseconds())
		s.times[e.name] = append(s.times[e.name], took/float64(passes*len(s.work.Requests)))
	}
}

// cpuTime returns the processor time that this process has had.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// print prints the medians. The anchor of growth is what a decision takes at
// thousand.
func (s *stage) print(out io.Writer, thousand *stage) {
	ours := s.times["decide"]
	name := fmt.Sprintf("decide-%d", s.n)
	switch {
	case s == thousand:
		line(out, name, median(ours), "ns", median(ours)/goalDecision, "<=1")
		n := allocations(s.engines[2], len(s.work.Requests))
		line(out, name+"-allocations", n, "allocations", n/goalAllocations, "<=1")
	case s.n > thousand.n:
		line(out, name, median(ours), "ns", ratio(ours, thousand.times["decide"]), "<=2")
	default:
		line(out, name, median(ours), "ns", ratio(ours, thousand.times["decide"]), "-")
	}
	for _, e := range []string{"floor", "cel", "parse-and-decide", "pinned"} {
		line(out, name+"-"+e, median(s.times[e]), "ns", ratio(s.times[e], ours), "-")
	}
}

// ratio returns the median of the ratios round by round: what disturbed one
// engine in a round disturbed the other.
func ratio(a, b []float64) float64 {
	all := make([]float64, len(a))
	for i := range a {
		all[i] = a[i] / b[i]
	}
	return median(all)
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// timed returns the median time of f in nanoseconds.
func timed(rounds int, f func()) float64 {
	var all []float64
	for range rounds {
		runtime.GC()
		start := time.Now()
		f()
		all = append(all, float64(time.Since(start).Nanoseconds()))
	}
	return median(all)
}

// changing returns the median time in which one grant takes the place of
// another, in nanoseconds.
func changing(s *grant.Snapshot, w *workload.Workload, rounds int) (float64, error) {
	var all []float64
	for i := range 50 * rounds {
		start := time.Now()
		next, err := change(s, w, i*7919%len(w.Rules))
		if err != nil {
			return 0, err
		}
		all = append(all, float64(time.Since(start).Nanoseconds()))
		s = next
	}
	return median(all), nil
}

// allocations returns how many allocations a decision makes.
func allocations(e engine, n int) float64 {
	for i := range n {
		e.decide(i)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		e.decide(i)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}
