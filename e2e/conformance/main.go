// Command conformance runs the standard's own conformance suites against a
// reference server twice, directly and through a real sidecar under a real
// control plane with everything granted, and compares check by check.
//
//	conformance -bin .build/bin -tools .build/mcp
//
// It prints one line a suite:
//
//	conformance <suite> <revision> direct <passed>/<failed> proxied <passed>/<failed> differing <n>
//
// and fails if a check comes out otherwise through the sidecar than directly. Then
// it has clients of others, on the TypeScript and Python SDKs and the inspector,
// work with servers of others that the sidecar starts, and prints a line each:
//
//	client <client> <server> passed <steps>/<steps>
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// patience is how long the whole of it may take.
const patience = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, func(format string, args ...any) { fmt.Printf(format, args...) }, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// A printer prints a line of the report.
type printer func(format string, args ...any)

func run(ctx context.Context, printf printer, args []string) (err error) {
	var cfg stageConfig
	var keep string
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.StringVar(&cfg.bin, "bin", ".build/bin", "folder of the built binaries, everything-server among them")
	flags.StringVar(&cfg.tools, "tools", ".build/mcp", "folder in which npm installed the suites")
	flags.StringVar(&cfg.clients, "clients", "e2e/conformance/clients", "folder of the programs on the SDKs of others")
	flags.StringVar(&cfg.resources, "resources", "e2e/conformance/testdata", "folder of the namespace, the agent and its grants")
	flags.StringVar(&keep, "keep", "", "folder to leave logs and results in; empty keeps none")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if cfg.dir = keep; keep == "" {
		if cfg.dir, err = os.MkdirTemp("", "reeve-conformance-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(cfg.dir)) }()
	}
	for _, dir := range []*string{&cfg.bin, &cfg.tools, &cfg.clients, &cfg.dir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stage, err := newStage(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.close()) }()

	differing := 0
	for _, s := range suites {
		n, err := compare(ctx, stage, s, filepath.Join(cfg.dir, s.name+"-"+s.revision), printf)
		if err != nil {
			return fmt.Errorf("%s %s: %w", s.name, s.revision, err)
		}
		differing += n
	}
	if differing > 0 {
		err = fmt.Errorf("%d checks come out otherwise through the sidecar than directly", differing)
	}
	return errors.Join(err, drive(ctx, stage, printf))
}
