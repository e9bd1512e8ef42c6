// Command peers measures decisions at a thousand grants of one agent beside two
// engines that others use: cedar-go, with a set of all policies and with only
// those of the tool, and OPA, with grants as data by server and tool and with a
// rule for each grant. It is a module of its own, so that the product's has
// none of theirs.
//
// All engines begin with the same call, parsed from the wire, and end with yes
// or no; what they have to build of it counts. What they take where it is built
// already is measured too. All do the same seeded work and are compared with an
// oracle first. They take turns, round by round, in processor time, and medians
// are printed, one line each:
//
//	bench <name> <value> <unit> <ratio to ours> <target of the ratio>
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/reeve-authz/reeve/e2e/bench/report"
	"github.com/reeve-authz/reeve/e2e/bench/workload"
)

const (
	grants = 1_000
	// turn is about how long an engine's turn is.
	turn = 50 * time.Millisecond
)

func main() {
	rounds := flag.Int("rounds", 15, "rounds in which the engines take turns")
	quick := flag.Bool("quick", false, "three rounds")
	flag.Parse()
	if *quick {
		*rounds = 3
	}
	if err := run(context.Background(), os.Stdout, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench peers:", err)
		os.Exit(1)
	}
}

// An engine decides the i-th call of a workload.
type engine struct {
	name   string
	target string // what its ratio to ours has to be
	decide func(i int) bool
}

// enginesOf loads a workload into every engine, ours first, and compares each
// with the oracle.
func enginesOf(ctx context.Context, w *workload.Workload) ([]engine, error) {
	calls, err := callsOf(w)
	if err != nil {
		return nil, err
	}
	ours, err := reeve(w, calls)
	if err != nil {
		return nil, fmt.Errorf("load ours: %w", err)
	}
	theirs, err := cedars(w, calls)
	if err != nil {
		return nil, fmt.Errorf("load cedar-go: %w", err)
	}
	indexed, err := indexedOPA(ctx, w, calls)
	if err != nil {
		return nil, fmt.Errorf("load OPA with data: %w", err)
	}
	rules, err := ruledOPA(ctx, w, calls)
	if err != nil {
		return nil, fmt.Errorf("load OPA with rules: %w", err)
	}
	engines := append([]engine{ours}, theirs...)
	engines = append(append(engines, indexed...), rules...)
	for _, e := range engines {
		for i, q := range w.Requests {
			if got := e.decide(i); got != q.Allowed {
				return nil, fmt.Errorf("%s says %t of request %d, and the oracle %t", e.name, got, i, q.Allowed)
			}
		}
	}
	return engines, nil
}

func run(ctx context.Context, out io.Writer, rounds int) error {
	w := workload.New(grants)
	engines, err := enginesOf(ctx, w)
	if err != nil {
		return err
	}
	passes := make([]int, len(engines))
	for i, e := range engines {
		passes[i] = 1 + int(float64(turn.Nanoseconds())/(pass(w, e, 1)*float64(len(w.Requests))))
	}
	times := make([][]float64, len(engines))
	for range rounds {
		runtime.GC()
		for i, e := range engines {
			times[i] = append(times[i], pass(w, e, passes[i]))
		}
	}
	for i, e := range engines {
		// What disturbed one engine in a round disturbed the others.
		ratios := make([]float64, rounds)
		for j := range ratios {
			ratios[j] = times[i][j] / times[0][j]
		}
		report.Line(out, e.name, report.Quantile(times[i], 0.5), "ns", report.Quantile(ratios, 0.5), e.target)
	}
	return nil
}

// pass returns what one decision takes, in nanoseconds of processor time.
func pass(w *workload.Workload, e engine, passes int) float64 {
	begun := cpuTime()
	for range passes {
		for i := range w.Requests {
			e.decide(i)
		}
	}
	return float64((cpuTime() - begun).Nanoseconds()) / float64(passes*len(w.Requests))
}

// cpuTime returns the processor time that this process has had.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
