package sidecar_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/reeve-authz/reeve/sidecar"
)

func config(dir string) sidecar.Config {
	return sidecar.Config{
		StateDir: dir, ControlPlane: []string{"127.0.0.1:1"}, EnrollAddress: []string{"127.0.0.1:1"},
		CADigest: "sha256:" + strings.Repeat("0", 64), JoinToken: "rjt_" + strings.Repeat("a", 40),
		MCPListen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
	}
}

func telemetry() sidecar.Telemetry {
	return sidecar.Telemetry{
		Log: slog.New(slog.DiscardHandler), Meters: noop.NewMeterProvider(), Metrics: http.NotFoundHandler(),
	}
}

// end runs s under a context that has ended, which releases what it holds.
func end(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run with an ended context = %v, want nil", err)
	}
}

func TestOneSidecarPerStateDir(t *testing.T) {
	dir := t.TempDir()
	first, err := sidecar.New(config(dir), telemetry())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sidecar.New(config(dir), telemetry()); !errors.Is(err, sidecar.ErrConfig) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second sidecar in %s = %v, want ErrConfig that names it", dir, err)
	}
	end(t, first)
	again, err := sidecar.New(config(dir), telemetry())
	if err != nil {
		t.Fatalf("a sidecar after the first one's end: %v", err)
	}
	end(t, again)
}

// The secret is new at each start, and nobody else can read it.
func TestEndpoint(t *testing.T) {
	dir := t.TempDir()
	if _, err := sidecar.ReadEndpoint(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the endpoint of no sidecar = %v, want os.ErrNotExist", err)
	}
	seen := make(map[string]bool)
	for range 2 {
		s, err := sidecar.New(config(dir), telemetry())
		if err != nil {
			t.Fatal(err)
		}
		e, err := sidecar.ReadEndpoint(dir)
		if err != nil || e != s.Endpoint() {
			t.Errorf("ReadEndpoint = %v, %v, want %v", e, err, s.Endpoint())
		}
		if len(e.Secret) != 64 || seen[e.Secret] {
			t.Errorf("secret of %d digits, seen before: %v", len(e.Secret), seen[e.Secret])
		}
		seen[e.Secret] = true
		for _, name := range []string{"endpoint.json", "local-secret"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v, want 0600", name, info.Mode(), err)
			}
		}
		end(t, s)
	}
}

func TestSocketIsForThisUserOnly(t *testing.T) {
	cfg := config(t.TempDir())
	path := filepath.Join(t.TempDir(), "mcp.sock")
	cfg.MCPListen = "unix:" + path
	for range 2 { // the second start finds the first one's socket
		s, err := sidecar.New(cfg, telemetry())
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: mode %v, %v, want 0600", info.Mode(), err)
		}
		end(t, s)
	}
}

// A setting that names the wrong file does not cost the file.
func TestSocketReplacesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config(t.TempDir())
	cfg.MCPListen = "unix:" + path
	if _, err := sidecar.New(cfg, telemetry()); !errors.Is(err, sidecar.ErrConfig) || !strings.Contains(err.Error(), "mcp-listen") {
		t.Errorf("New = %v, want ErrConfig that names mcp-listen", err)
	}
	if data, err := os.ReadFile(path); string(data) != "mine" || err != nil {
		t.Errorf("the file holds %q, %v", data, err)
	}
}

func TestConfigErrorsNameTheSetting(t *testing.T) {
	for name, breakIt := range map[string]func(*sidecar.Config){
		"state-dir":       func(c *sidecar.Config) { c.StateDir = "" },
		"mcp-listen":      func(c *sidecar.Config) { c.MCPListen = "0.0.0.0:0" },
		"ops-listen":      func(c *sidecar.Config) { c.OpsListen = "[::]:0" },
		"control-plane":   func(c *sidecar.Config) { c.ControlPlane = []string{"nowhere"} },
		"enroll-address":  func(c *sidecar.Config) { c.EnrollAddress = nil },
		"spool-max-bytes": func(c *sidecar.Config) { c.SpoolMaxBytes = 1 << 20 },
		"ca-digest":       func(c *sidecar.Config) { c.CADigest = "" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t.TempDir())
			breakIt(&cfg)
			if _, err := sidecar.New(cfg, telemetry()); !errors.Is(err, sidecar.ErrConfig) || !strings.Contains(err.Error(), name) {
				t.Errorf("New = %v, want ErrConfig that names %s", err, name)
			}
		})
	}
}
