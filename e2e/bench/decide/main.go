// Command decide measures decisions, and what it takes to load grants and to
// change one, beside a map of Go closures and beside cel-go with a program for
// each grant. All do the same seeded work and are compared with an oracle
// first. Engines take turns, round by round, and medians are printed, one line
// each:
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
	"time"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
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
	atThousand := 0.0
	for _, n := range sizes {
		times, err := decisions(out, n, rounds)
		if err != nil {
			return fmt.Errorf("with %d grants: %w", n, err)
		}
		ours := times["decide"]
		switch n {
		case 1_000:
			atThousand = ours
			line(out, "decide-1000", ours, "ns", ours/goalDecision, "<=1")
		case 100_000:
			line(out, "decide-100000", ours, "ns", ours/atThousand, "<=2")
		default:
			line(out, fmt.Sprintf("decide-%d", n), ours, "ns", ours/goalDecision, "-")
		}
		line(out, fmt.Sprintf("decide-%d-to-floor", n), ours, "ns", ours/times["floor"], "-")
		line(out, fmt.Sprintf("decide-%d-to-cel", n), ours, "ns", ours/times["cel"], "-")
		line(out, fmt.Sprintf("decide-%d-floor", n), times["floor"], "ns", 1, "-")
		line(out, fmt.Sprintf("decide-%d-cel", n), times["cel"], "ns", times["cel"]/times["floor"], "-")
		line(out, fmt.Sprintf("parse-and-decide-%d", n), times["parse-and-decide"], "ns", times["parse-and-decide"]/ours, "-")
	}
	return nil
}

func line(out io.Writer, name string, value float64, unit string, ratio float64, target string) {
	_, _ = fmt.Fprintf(out, "bench %s %.4g %s %.3f %s\n", name, value, unit, ratio, target)
}

// decisions loads n grants into every engine and returns each engine's median
// time for a decision, in nanoseconds. On the way it prints what the loading
// and one change took.
func decisions(out io.Writer, n, rounds int) (map[string]float64, error) {
	w := newWorkload(n)
	messages := w.messages()
	entries, err := catalogue(w)
	if err != nil {
		return nil, err
	}
	known := grant.Empty().Apply(1, entries, nil)

	var cel engine
	floorTime := timed(rounds, func() error { loadFloor(w); return nil })
	s, ourTime, err := loading(known, messages, rounds)
	if err != nil {
		return nil, err
	}
	celTime := timed(1, func() error { cel, err = newCEL(w); return err })
	if err != nil {
		return nil, err
	}
	line(out, fmt.Sprintf("load-%d", n), ourTime/1e6, "ms", ourTime/floorTime, "-")
	line(out, fmt.Sprintf("load-%d-cel", n), celTime/1e6, "ms", celTime/floorTime, "-")
	changeTime, err := changing(s, w, rounds)
	if err != nil {
		return nil, err
	}
	line(out, fmt.Sprintf("one-change-%d", n), changeTime/1e3, "us", changeTime/(ourTime/float64(n)), "-")

	ours, err := newReeve(w, s)
	if err != nil {
		return nil, err
	}
	engines := []engine{newFloor(w), cel, ours, newReeveParsed(w, s)}
	for _, e := range engines {
		if err := check(w, e); err != nil {
			return nil, err
		}
	}
	if n == 1_000 {
		perDecision := allocations(ours, len(w.requests))
		line(out, "decide-1000-allocations", perDecision, "allocations", perDecision/goalAllocations, "<=1")
	}
	return interleaved(w, engines, rounds), nil
}

// interleaved lets the engines take turns and returns their medians, in
// nanoseconds a decision.
func interleaved(w *workload, engines []engine, rounds int) map[string]float64 {
	samples := make(map[string][]float64)
	for range rounds {
		for _, e := range engines {
			runtime.GC()
			const passes = 10
			start := time.Now()
			for range passes {
				for i := range w.requests {
					e.decide(i)
				}
			}
			took := float64(time.Since(start).Nanoseconds())
			samples[e.name] = append(samples[e.name], took/float64(passes*len(w.requests)))
		}
	}
	medians := make(map[string]float64)
	for name, all := range samples {
		medians[name] = median(all)
	}
	return medians
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// timed returns the median time of f in nanoseconds.
func timed(rounds int, f func() error) float64 {
	var all []float64
	for range rounds {
		runtime.GC()
		start := time.Now()
		if err := f(); err != nil {
			return 0
		}
		all = append(all, float64(time.Since(start).Nanoseconds()))
	}
	return median(all)
}

func loading(s *grant.Snapshot, messages []*grantv1.Grant, rounds int) (loaded *grant.Snapshot, took float64, err error) {
	took = timed(min(rounds, 5), func() error {
		loaded, err = load(s, messages)
		return err
	})
	return loaded, took, err
}

// changing returns the median time in which one grant takes the place of
// another, in nanoseconds.
func changing(s *grant.Snapshot, w *workload, rounds int) (float64, error) {
	var all []float64
	for i := range 50 * rounds {
		start := time.Now()
		next, err := change(s, w, i*7919%len(w.rules))
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
