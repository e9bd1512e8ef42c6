// Command calls measures tools/call through a real sidecar, under a real control
// plane, against the same call through a bare httputil.ReverseProxy and against
// the server itself; and the same over standard input and output, through the
// sidecar's launcher and a server that the sidecar has started, against such a
// server itself. Servers, proxy and sidecar are processes of their own; the
// rounds are interleaved, so that what disturbs the machine disturbs all.
//
//	calls -bin .bin [-rounds 5] [-calls 400] [-grants 1000]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type settings struct {
	bin                   string
	rounds, calls, grants int
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "server" {
		return serveTools(ctx)
	}
	if len(args) > 0 && args[0] == "stdio" {
		return newTools().Run(ctx, &mcp.StdioTransport{})
	}
	if len(args) == 2 && args[0] == "proxy" {
		return serveProxy(ctx, args[1])
	}
	var s settings
	flags := flag.NewFlagSet("calls", flag.ContinueOnError)
	flags.StringVar(&s.bin, "bin", ".bin", "directory of the built binaries")
	flags.IntVar(&s.rounds, "rounds", 5, "interleaved rounds")
	flags.IntVar(&s.calls, "calls", 400, "calls of one caller in a round")
	flags.IntVar(&s.grants, "grants", 1000, "grants that the agent holds")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return measure(ctx, s)
}

// figures are the latencies of one target at one number of callers, of each
// round.
type figures struct {
	p50, p99 []time.Duration
	rate     []float64
}

func (f *figures) add(latencies []time.Duration, took time.Duration) {
	slices.Sort(latencies)
	f.p50 = append(f.p50, latencies[len(latencies)/2])
	f.p99 = append(f.p99, latencies[len(latencies)*99/100])
	f.rate = append(f.rate, float64(len(latencies))/took.Seconds())
}

func median[T time.Duration | float64](values []T) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return float64(sorted[len(sorted)/2])
}

func measure(ctx context.Context, s settings) (err error) {
	stage, err := newStage(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.close()) }()

	callers := []int{1, 16}
	results := make(map[string]map[int]*figures)
	for _, t := range stage.targets {
		results[t.name] = map[int]*figures{}
		for _, n := range callers {
			results[t.name][n] = &figures{}
			if _, _, err := t.load(ctx, n, s.calls/4); err != nil { // warms up connections and caches
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	for range s.rounds {
		for _, n := range callers {
			for _, t := range stage.targets {
				latencies, took, err := t.load(ctx, n, s.calls)
				if err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
				results[t.name][n].add(latencies, took)
			}
		}
	}
	for _, n := range callers {
		for _, t := range stage.targets {
			f, target := results[t.name][n], "-"
			anchor := results[t.anchor][n]
			if t.name == "sidecar" {
				target = "<=1.2"
			}
			line(fmt.Sprintf("call-%s-p50-%d-callers", t.name, n), median(f.p50)/1e3, "us", median(f.p50)/median(anchor.p50), target)
			line(fmt.Sprintf("call-%s-p99-%d-callers", t.name, n), median(f.p99)/1e3, "us", median(f.p99)/median(anchor.p99), "-")
			line(fmt.Sprintf("call-%s-rate-%d-callers", t.name, n), median(f.rate), "1/s", median(f.rate)/median(anchor.rate), "-")
		}
	}
	rss, anonymous, err := memory(stage.sidecarPID())
	if err != nil {
		return err
	}
	line("sidecar-rss", rss, "MB", rss/36, "<=1")
	line("sidecar-anonymous", anonymous, "MB", anonymous/16, "<=1")
	return nil
}

// line prints one result in the form that every benchmark here has.
func line(name string, value float64, unit string, ratio float64, target string) {
	fmt.Printf("bench %s %.1f %s %.2f %s\n", name, value, unit, ratio, target)
}
