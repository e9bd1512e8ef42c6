package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// TestRecoverAdmin loses the only administrator's key. What docs/operations.md
// says brings it back, and what was lost is worth nothing afterwards.
func TestRecoverAdmin(t *testing.T) {
	s := start(t, stack.Config{})
	lost := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.CopyFS(lost, os.DirFS(filepath.Join(s.DataDir, "bootstrap"))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.DataDir, "bootstrap")); err != nil {
		t.Fatal(err)
	}
	s.ControlPlane.Stop(patience)
	if _, err := s.Run(t.Context(), nil, "reeve-controlplane", "recover-admin", "--data-dir", s.DataDir, "--admin-listen", s.AdminAddress); err != nil {
		t.Fatal(err)
	}
	restart(t, s.ControlPlane)
	reevectl(t, s, "admin", "list")

	_, err := s.Run(t.Context(), nil, "reevectl", "--config", filepath.Join(lost, "context.yaml"), "admin", "list")
	if err == nil {
		t.Error("the lost administrator's certificate is still good")
	}
}

// TestBackupRestore restores a backup as docs/operations.md says. What was done
// after it is undone, for better and worse, and the sidecar follows without
// being told.
func TestBackupRestore(t *testing.T) {
	s := start(t, stack.Config{FreshnessBound: 2 * time.Second})
	apply(t, s, probe)
	backup := filepath.Join(t.TempDir(), "backup.db")
	if _, err := s.Run(t.Context(), nil, "reeve-controlplane", "backup", backup, "--data-dir", s.DataDir); err != nil {
		t.Fatal(err)
	}
	reevectl(t, s, "revoke", "probe", "-n", stack.Namespace, "--wait")
	d := drive(t, s, 2, "delete_customer", "customer")
	eventually(t, "calls are denied", func() bool { return d.denied.Load() > 10 })
	if d.allowed.Load() > 0 {
		t.Fatal("calls are allowed that were revoked")
	}

	s.ControlPlane.Stop(patience)
	old := s.DataDir + ".old"
	if err := os.Rename(s.DataDir, old); err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{"bootstrap", "records"} {
		if err := os.CopyFS(filepath.Join(s.DataDir, kept), os.DirFS(filepath.Join(old, kept))); err != nil {
			t.Fatal(err)
		}
	}
	kek, err := os.ReadFile(filepath.Join(old, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context(), nil, "reeve-controlplane", "restore", backup, "--data-dir", s.DataDir); err != nil {
		t.Fatal(err)
	}

	// Without the key encryption key the control plane says what is missing.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.ControlPlane.Start(ctx); err == nil || !strings.Contains(err.Error(), "kek") {
		t.Errorf("started without its key: %v; want an error that names it", err)
	}
	s.ControlPlane.Kill()
	if err := os.WriteFile(filepath.Join(s.DataDir, "kek"), kek, 0o600); err != nil {
		t.Fatal(err)
	}
	restart(t, s.ControlPlane)
	// The revocation is not in the backup. It holds all the same, for the fleet is
	// halted until somebody has looked.
	eventually(t, "calls are denied because of the halt", func() bool { return d.deniedFor("halted") })
	if n := d.allowed.Load(); n > 0 {
		t.Errorf("P2: after the restoration %d calls were allowed that were revoked", n)
	}
	reevectl(t, s, "fleet", "resume", "--all", "--wait")
	d.flows(t, 20)
	join(t, s, d.stop())
}

// TestUpgrade restarts each process in order, as an upgrade does, amid traffic.
// The control plane ends without keeping sidecars waiting, so nobody notices;
// the sidecar finishes what is open.
func TestUpgrade(t *testing.T) {
	s := start(t, stack.Config{})
	d := drive(t, s, 4, "search_tickets", "text")
	d.flows(t, 50)
	for _, p := range []*stack.Process{s.ControlPlane, s.Sidecar} {
		began := time.Now()
		p.Stop(patience)
		t.Logf("%s ended in %v", p.Name(), time.Since(began).Round(time.Millisecond))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %v to end", p.Name(), took)
		}
		restart(t, p)
		d.flows(t, 50)
	}
	calls := d.stop()
	for _, c := range calls {
		if c.report.Verdict == "deny" {
			t.Errorf("P8: a call was denied %s", c.report.Reason)
		}
	}
	join(t, s, calls)
}

// TestDrainTimesOut ends the sidecar while a call is open that outlasts the drain
// timeout. The agent is answered, and the outcome is on record (P3).
func TestDrainTimesOut(t *testing.T) {
	s := start(t, stack.Config{DrainTimeout: 200 * time.Millisecond})
	report := openCall(t, s)
	s.Sidecar.Stop(patience)
	select {
	case r := <-report:
		if r.Verdict != "deny" || r.Message == "" {
			t.Errorf("the open call ended %s %s %q, want deny and a sentence", r.Verdict, r.Reason, r.Message)
		}
	case <-time.After(patience):
		t.Fatal("the call is still open after the sidecar's end")
	}
	eventually(t, "the record says that it was cut", func() bool {
		all, err := s.AllDecisions(t.Context())
		return err == nil && len(all) == 1 && all[0].GetOutcome().GetStatus() == decisionv1.Outcome_CUT
	})
}

// TestMistakes makes an operator's mistakes: each ends at once, with 2, and says
// what to change.
func TestMistakes(t *testing.T) {
	s := start(t, stack.Config{})
	enrolled := t.TempDir()
	if err := s.Enrol(t.Context(), stack.Agent, enrolled); err != nil {
		t.Fatal(err)
	}
	unknown := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(unknown, []byte("freshnessbound: 3s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		program string
		args    []string
		says    string
	}{
		{"a flag that is none", "reeve-controlplane", []string{"run", "--data-dri", "x"}, "data-dri"},
		{"a key that is none", "reeve-controlplane", []string{"run", "--config", unknown}, "freshnessbound"},
		{"a bound that is too long", "reeve-controlplane", []string{"run", "--data-dir", t.TempDir(), "--freshness-bound", "1h"}, "freshness-bound"},
		{"a door for everyone", "reeve-sidecar", []string{"run", "--state-dir", enrolled, "--mcp-listen", "0.0.0.0:7070"}, "loopback"},
		{"a kind that is none", "reevectl", []string{"get", "policies"}, "policies"},
		{"a verb that is none", "reevectl", []string{"revok", "probe"}, "revoke"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := s.Run(ctx, nil, c.program, c.args...)
			var failed *stack.RunError
			if !errors.As(err, &failed) || failed.Code != 2 || !strings.Contains(failed.Stderr, c.says) {
				t.Errorf("got %v, want exit code 2 and a sentence that names %q", err, c.says)
			}
		})
	}
}

// restart starts a process again.
func restart(t *testing.T, p *stack.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
}
