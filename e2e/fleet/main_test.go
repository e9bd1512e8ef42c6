package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reeve-authz/reeve/e2e/fleet/floor"
)

// TestMain plays the floor's server when this program starts itself as that.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "floor" {
		if err := floor.Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("internal/poll.runtime_pollWait")) // kept HTTP connections
}

// The whole table for a small fleet: real enrolment, real streams, a real floor.
func TestBench(t *testing.T) {
	lines := measure(t, "bench", "-sizes", "20", "-rounds", "3")
	for _, name := range []string{
		"cold-start", "memory-per-stream", "goroutines-per-stream", "floor-p50", "revoked-received-p50", "revoked-in-force-p50",
		"revoked-cpu-per-message", "one-agent-received-p50", "burst-in-force", "burst-frames-per-stream", "renewals",
	} {
		if _, ok := lines["fleet-20-"+name]; !ok {
			t.Errorf("no line for %s", name)
		}
	}
	if n := lines["fleet-20-burst-frames-per-stream"]; n < 1 || n > burstOf {
		t.Errorf("%g responses for %d changes", n, burstOf)
	}
	if received, inForce := lines["fleet-20-revoked-received-p50"], lines["fleet-20-revoked-in-force-p50"]; received <= 0 || inForce < received {
		t.Errorf("received by all after %g ms and in force after %g ms", received, inForce)
	}
}

// Silent sidecars keep their streams.
func TestSoak(t *testing.T) {
	if lost := measure(t, "soak", "-sizes", "20", "-for", "3s")["fleet-20-soak-lost"]; lost != 0 {
		t.Errorf("%g streams were lost", lost)
	}
}

func TestRevoke(t *testing.T) {
	lines := measure(t, "revoke", "-sizes", "1,10", "-rounds", "3")
	for _, name := range []string{"revoke-last-deny-1-sidecars-p50", "revoke-last-deny-10-sidecars-max"} {
		if lines[name] <= 0 {
			t.Errorf("%s is %g ms", name, lines[name])
		}
	}
}

// What would not fit is refused before anything is started.
func TestLimits(t *testing.T) {
	for _, args := range []string{
		"", "walk", "bench -sizes 0", "bench -sizes 100,10", "bench -sizes 20001", "bench -rounds 0", "soak -for 1ms", "bench -replicas 9",
	} {
		if err := run(t.Context(), strings.Fields(args), nil, &bytes.Buffer{}, &bytes.Buffer{}); err == nil {
			t.Errorf("fleet %s: no error", args)
		}
	}
	most, err := openFiles()
	if err != nil {
		t.Fatal(err)
	}
	if err := checkFiles(most); err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("as many sidecars as files may be open: %v", err)
	}
}

var benchLine = regexp.MustCompile(`(?m)^bench (\S+) (\S+) \S+ \S+ \S+$`)

// measure runs a command on the built binaries, and returns what it printed.
func measure(t *testing.T, args ...string) map[string]float64 {
	t.Helper()
	bin := os.Getenv("REEVE_BIN")
	if bin == "" {
		t.Skip("REEVE_BIN is not set: run make e2e")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out, notes bytes.Buffer
	if err := run(ctx, append([]string{args[0], "-bin", bin}, args[1:]...), nil, &out, &notes); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), notes.String())
	}
	t.Logf("\n%s", out.String())
	lines := make(map[string]float64)
	for _, m := range benchLine.FindAllStringSubmatch(out.String(), -1) {
		value, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatalf("%s: %v", m[0], err)
		}
		lines[m[1]] = value
	}
	return lines
}
