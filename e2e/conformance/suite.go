package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A suite is one run of the conformance tests.
type suite struct {
	name, revision string
	// program is the npm package, arguments what selects the scenarios.
	program   string
	arguments []string
	// server is which of the stage's servers it is for: one that keeps sessions,
	// as revisions to 2025-11-25 have them, or one that keeps none.
	server string
	// least is how many checks there must be, so that a run that tests nothing
	// does not count as one that passes.
	least int
}

var suites = []suite{
	{
		name: "stable", revision: "2025-11-25", program: "conformance-stable", server: stateful,
		arguments: []string{"--suite", "all"}, least: 40,
	},
	{
		name: "next", revision: "2025-11-25", program: "conformance-next", server: stateful,
		arguments: []string{"--requirements", "2025-11-25"}, least: 80,
	},
	{
		name: "next", revision: "2026-07-28", program: "conformance-next", server: stateless,
		arguments: []string{"--requirements", "2026-07-28"}, least: 160,
	},
}

// checks are how the checks of a run came out. A check is named by its
// scenario, its id and its place among those of the same id there.
type checks map[string]string

func (c checks) count(status string) (n int) {
	for _, s := range c {
		if s == status {
			n++
		}
	}
	return n
}

// compare runs a suite both ways, prints its line and returns how many checks
// differ.
func compare(ctx context.Context, on *stage, s suite, dir string, printf printer) (differing int, err error) {
	var direct, proxied checks
	runs, runCtx := errgroup.WithContext(ctx)
	runs.Go(func() (err error) {
		direct, err = s.run(runCtx, on, on.direct(s.server), filepath.Join(dir, "direct"))
		return err
	})
	runs.Go(func() (err error) {
		proxied, err = s.run(runCtx, on, on.proxied(s.server), filepath.Join(dir, "proxied"))
		return err
	})
	if err := runs.Wait(); err != nil {
		return 0, err
	}
	all := maps.Clone(direct)
	maps.Copy(all, proxied)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if direct[name] != proxied[name] {
			differing++
			printf("  differs: %s: direct %s, proxied %s\n", name, orNone(direct[name]), orNone(proxied[name]))
		}
	}
	printf("conformance %s %s direct %d/%d proxied %d/%d differing %d\n", s.name, s.revision,
		direct.count("SUCCESS"), direct.count("FAILURE"), proxied.count("SUCCESS"), proxied.count("FAILURE"), differing)
	if n := len(direct); n < s.least {
		return differing, fmt.Errorf("only %d checks were made, at least %d were expected", n, s.least)
	}
	return differing, nil
}

func orNone(status string) string {
	if status == "" {
		return "not made"
	}
	return status
}

// run runs the suite against a URL and reads what came out.
func (s suite) run(ctx context.Context, on *stage, url, dir string) (checks, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	program := filepath.Join(on.cfg.tools, "node_modules", s.program, "dist", "index.js")
	cmd := exec.CommandContext(ctx, on.node(), append([]string{program, "server", "--url", url, "-o", dir}, s.arguments...)...)
	cmd.WaitDelay = 5 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	// That some checks fail, directly too, is no failure of the run.
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return nil, fmt.Errorf("run %s: %w\n%s", s.program, err, output.Bytes())
	}
	return read(dir)
}

// scenarioDir is how the suites name the folder of a scenario's results.
var scenarioDir = regexp.MustCompile(`^(?:server-)?(.+?)-\d{4}-\d{2}-\d{2}T[-0-9]+Z$`)

// read reads the results of a run.
func read(dir string) (checks, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "checks.json"))
	if err != nil {
		return nil, err
	}
	all := make(checks)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var results []struct {
			ID     string `json:"id"`
			Status string `json:"status"`
		}
		if err := json.Unmarshal(data, &results); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		scenario := filepath.Base(filepath.Dir(file))
		if found := scenarioDir.FindStringSubmatch(scenario); found != nil {
			scenario = found[1]
		}
		seen := make(map[string]int)
		for _, r := range results {
			seen[r.ID]++
			all[fmt.Sprintf("%s/%s#%d", scenario, r.ID, seen[r.ID])] = strings.ToUpper(r.Status)
		}
	}
	return all, nil
}
