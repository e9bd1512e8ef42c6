package main

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/reeve-authz/reeve/controlplane"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"reevectl": main, "mcp-tools": mcpTools})
}

// TestScripts runs the scripts of testdata against a control plane of its own,
// each in a namespace of its own.
func TestScripts(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cp, err := controlplane.New(ctx, controlplane.Config{
		DataDir:        filepath.Join(dir, "data"),
		TrustDomain:    "example.test",
		AdminListen:    "127.0.0.1:0",
		SidecarListen:  "127.0.0.1:0",
		EnrollListen:   "127.0.0.1:0",
		FreshnessBound: time.Second,
	}, controlplane.Telemetry{
		Log: slog.New(slog.DiscardHandler), Meters: noop.NewMeterProvider(), Metrics: http.NotFoundHandler(),
	})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cp.Run(ctx) }()
	t.Cleanup(func() { // after the scripts, which run in parallel
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			bootstrap := filepath.Join(dir, "data", "bootstrap")
			e.Setenv("BOOTSTRAP", bootstrap)
			e.Setenv("REEVECTL_CONFIG", filepath.Join(bootstrap, "context.yaml"))
			contexts, err := profile.Load(filepath.Join(bootstrap, "context.yaml"))
			if err != nil {
				return err
			}
			e.Setenv("ADDRESS", contexts.Contexts[0].Addresses.String())
			for name, url := range desks(e) {
				e.Setenv(name, url)
			}
			return nil
		},
	})
}
