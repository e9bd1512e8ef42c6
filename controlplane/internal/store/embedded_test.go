package store

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// P8: a restarted store is the same store; a long path is no obstacle; nothing
// listens but sockets that only their owner can reach.
func TestEmbeddedRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd twice")
	}
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	log := slog.New(slog.DiscardHandler)
	s, err := Open(t.Context(), Config{Dir: dir}, log)
	if err != nil {
		t.Fatal(err)
	}
	revision := put(t, s, "a", "ann")
	if second, err := Open(t.Context(), Config{Dir: dir}, log); err == nil {
		t.Error("opened twice")
		_ = second.Close()
	}
	beside, err := Attach(t.Context(), Config{Dir: dir}, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := beside.Get(t.Context(), agentName("a")); err != nil {
		t.Error(err)
	}
	if err := beside.Close(); err != nil {
		t.Error(err)
	}
	before, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Head(t.Context()); err == nil {
		t.Error("a closed store answers")
	}
	s, err = Attach(t.Context(), Config{Dir: dir}, log) // nobody has it open
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	after, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" || after.Revision != revision {
		t.Errorf("head at revision %d: %s", revision, diff)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"nothing":           {},
		"both":              {Dir: open, Endpoints: []string{"https://127.0.0.1:1"}},
		"without TLS":       {Endpoints: []string{"https://127.0.0.1:1"}},
		"plain":             {Endpoints: []string{"http://127.0.0.1:1"}, CertFile: "c", KeyFile: "k", CAFile: "a"},
		"a public place":    {Dir: open},
		"files that aren't": {Endpoints: []string{"127.0.0.1:1"}, CertFile: "c", KeyFile: "k", CAFile: "a"},
	} {
		if s, err := Open(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: opened", name)
			_ = s.Close()
		}
	}
}
