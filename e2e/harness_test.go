package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// patience is how long a test waits for what should take milliseconds.
const patience = 30 * time.Second

// start runs a stack until the test ends, on the binaries that `make e2e`
// built; without them the test is skipped. If the test fails, it shows what the
// processes wrote last.
func start(t *testing.T, cfg stack.Config) *stack.Stack {
	t.Helper()
	cfg.Bin = os.Getenv("REEVE_BIN")
	if cfg.Bin == "" || testing.Short() {
		t.Skip("needs built binaries: make e2e")
	}
	cfg.Dir, cfg.Example = t.TempDir(), filepath.Join("..", "examples", "support")
	if cfg.Etcd = os.Getenv("REEVE_ETCD"); cfg.Etcd == "" && cfg.Replicas > 1 {
		t.Skip("needs an etcd binary: make e2e")
	}
	s, err := stack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			t.Logf("what the processes wrote last:\n%s%s%s", s.ControlPlane.Tail(30), s.Sidecar.Tail(30), s.Server.Tail(10))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// eventually asks until ok says yes, and fails the test if it never does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// reevectl runs reevectl, which must succeed.
func reevectl(t *testing.T, s *stack.Stack, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.Reevectl(ctx, args...); err != nil {
		t.Fatal(err)
	}
}
