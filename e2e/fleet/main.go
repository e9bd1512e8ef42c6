// Command fleet loads real control planes with simulated sidecars, each with an
// identity, a connection and a stream of its own, and measures what a change, a
// start and a storm take, beside a bare gRPC broadcast to as many streams.
//
//	fleet bench  -bin .build/bin [-sizes 100,1000,5000] [-rounds 15] [-replicas 1]
//	fleet revoke -bin .build/bin [-sizes 1,100,5000]
//	fleet soak   -bin .build/bin [-sizes 2500,10000] [-for 10m]
//
// It ends by itself: everything it waits for has a deadline.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/reeve-authz/reeve/e2e/fleet/floor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// Limits of what may be asked for.
const (
	mostSidecars = 20_000
	mostRounds   = 1000
	mostReplicas = 5
	longestSoak  = 12 * time.Hour
	// memory is where the garbage collector begins to work against growth: 10,000
	// connections of gRPC clients need about a gigabyte.
	memory = 4 << 30
)

type settings struct {
	bin, etcd string
	sizes     []int
	rounds    int
	replicas  int
	soak      time.Duration
	// out is for results, and notes for what goes on meanwhile.
	out, notes io.Writer
}

// note says what goes on.
func (s settings) note(format string, args ...any) {
	_, _ = fmt.Fprintf(s.notes, "# "+format+"\n", args...)
}

func run(ctx context.Context, args []string, in io.Reader, out, notes io.Writer) error {
	roles := map[string]func(context.Context, settings) error{"bench": bench, "revoke": revoke, "soak": soak}
	if len(args) == 1 && args[0] == "floor" {
		return floor.Serve(ctx, in, out)
	}
	if len(args) == 0 || roles[args[0]] == nil {
		return errors.New("usage: fleet bench|revoke|soak [flags]")
	}
	s := settings{out: out, notes: notes}
	sizes := map[string]string{"bench": "100,1000,5000,10000", "revoke": "1,100,5000", "soak": "2500,10000"}[args[0]]
	flags := flag.NewFlagSet("fleet "+args[0], flag.ContinueOnError)
	flags.StringVar(&s.bin, "bin", ".build/bin", "directory of the built binaries")
	flags.StringVar(&s.etcd, "etcd", ".bin/etcd", "etcd, which several replicas need")
	flags.StringVar(&sizes, "sizes", sizes, "how many sidecars, one run after another, growing")
	flags.IntVar(&s.rounds, "rounds", 15, "rounds of each measurement")
	flags.IntVar(&s.replicas, "replicas", 1, "control planes")
	flags.DurationVar(&s.soak, "for", 10*time.Minute, "how long a soak is")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if err := s.check(sizes); err != nil {
		return err
	}
	// A load is to be light: its own garbage is collected late.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(memory)
	return roles[args[0]](ctx, s)
}

func (s *settings) check(sizes string) error {
	for field := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 || n > mostSidecars || len(s.sizes) > 0 && n < s.sizes[len(s.sizes)-1] {
			return fmt.Errorf("sizes %q: want numbers from 1 to %d, growing", sizes, mostSidecars)
		}
		s.sizes = append(s.sizes, n)
	}
	switch {
	case s.rounds < 1 || s.rounds > mostRounds:
		return fmt.Errorf("rounds: want 1 to %d", mostRounds)
	case s.replicas < 1 || s.replicas > mostReplicas:
		return fmt.Errorf("replicas: want 1 to %d", mostReplicas)
	case s.soak < time.Second || s.soak > longestSoak:
		return fmt.Errorf("for: want 1s to %s", longestSoak)
	}
	return checkFiles(s.sizes[len(s.sizes)-1])
}

// spareFiles is what a process has open beside its streams, generously.
const spareFiles = 500

// checkFiles reports whether so many streams are more than the limit of open
// files lets this process, and those that it starts, have.
func checkFiles(streams int) error {
	most, err := openFiles()
	if err == nil && streams+spareFiles > most {
		err = fmt.Errorf("%d sidecars need %d open files, and the limit is %d (ulimit -n): raise it, or ask for at most %d sidecars",
			streams, streams+spareFiles, most, max(0, most-spareFiles))
	}
	return err
}

func openFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read limit of open files: %w", err)
	}
	return int(min(limit.Max, 1<<30)), nil
}
