package enroll

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/sidecar/identity"
)

func TestEnrolThenRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cp := newControlPlane(t)
		cfg := cp.config(t)
		source, stop := cp.start(t, cfg)
		<-source.Ready()
		first, err := source.Peer()
		if err != nil {
			t.Fatal(err)
		}
		if first.Name != agent || first.UID != "u1" || first.KeyDigest != cp.keyDigest.Load() {
			t.Errorf("enrolled as %+v", first)
		}
		time.Sleep(26 * time.Minute)
		synctest.Wait()
		if cp.renewed.Load() != 0 {
			t.Error("renewed long before half of its life")
		}
		time.Sleep(8 * time.Minute)
		synctest.Wait()
		second, err := source.Peer()
		if err != nil {
			t.Fatal(err)
		}
		if cp.renewed.Load() != 1 || !second.NotAfter.After(first.NotAfter) || second.KeyDigest != first.KeyDigest {
			t.Errorf("after half of its life: renewed %d times, %+v", cp.renewed.Load(), second)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		for _, f := range []string{keyFile, svidFile, bundleFile} {
			info, err := os.Stat(filepath.Join(cfg.Dir, f))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", f, info, err)
			}
		}
		if entries, _ := os.ReadDir(cfg.Dir); len(entries) != 3 {
			t.Errorf("the directory holds %v", entries)
		}
	})
}

// P8: a restarted sidecar needs no token, be its SVID good or long ended.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cp := newControlPlane(t)
		cfg := cp.config(t)
		source, stop := cp.start(t, cfg)
		<-source.Ready()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		cfg.JoinToken, cfg.CADigest = "", ""
		source, stop = cp.start(t, cfg)
		select {
		case <-source.Ready():
		default:
			t.Error("what is on disk is not used")
		}
		if err := stop(); err != nil || cp.renewed.Load() != 0 {
			t.Errorf("%v; renewed %d times", err, cp.renewed.Load())
		}
		time.Sleep(50 * time.Hour)
		source, stop = cp.start(t, cfg)
		synctest.Wait()
		if p, err := source.Peer(); err != nil || time.Until(p.NotAfter) < 59*time.Minute {
			t.Errorf("%+v, %v", p, err)
		}
		if err := stop(); err != nil || cp.renewed.Load() != 1 || cp.attested.Load() != 1 {
			t.Errorf("%v; renewed %d times, attested %d times", err, cp.renewed.Load(), cp.attested.Load())
		}
	})
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name    string
		err     error
		retried bool
	}{
		{"used token", refusal(codes.PermissionDenied, "TOKEN_USED"), false},
		{"refused token", refusal(codes.PermissionDenied, "TOKEN_REFUSED"), false},
		{"another's key", refusal(codes.PermissionDenied, "KEY_IN_USE"), false},
		{"invalid", status.Error(codes.InvalidArgument, "no, because"), false},
		{"suspended agent", refusal(codes.PermissionDenied, "AGENT_NOT_ACTIVE"), true},
		{"store offline", refusal(codes.Unavailable, "STORE_OFFLINE"), true},
		{"overload", refusal(codes.ResourceExhausted, "OVERLOADED"), true},
		{"anything else", status.Error(codes.Internal, "oh"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cp := newControlPlane(t)
				refuse := func(string) error { return tt.err }
				cp.refuse.Store(&refuse)
				source, stop := cp.start(t, cp.config(t))
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if tries := cp.attested.Load(); tries > 50 || tt.retried != (tries > 15) {
					t.Errorf("tried %d times", tries)
				}
				cp.refuse.Store(nil)
				time.Sleep(2 * maxBackoff)
				synctest.Wait()
				_, sourceErr := source.Peer()
				err := stop()
				if tt.retried && (err != nil || sourceErr != nil) {
					t.Errorf("did not recover: %v, %v", err, sourceErr)
				}
				if !tt.retried && (err == nil || !strings.Contains(err.Error(), "no, because")) {
					t.Errorf("ended with %v", err)
				}
			})
		})
	}
}

// An enrolment that has ended is replaced with the token if there is one.
func TestEnrolmentEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cp := newControlPlane(t)
		cfg := cp.config(t)
		source, stop := cp.start(t, cfg)
		<-source.Ready()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Minute)
		refuse := func(token string) error {
			if token == "another" {
				return nil
			}
			return refusal(codes.PermissionDenied, "KEY_NOT_ENROLLED")
		}
		cp.refuse.Store(&refuse)
		cfg.JoinToken = ""
		_, stop = cp.start(t, cfg)
		if err := stop(); err == nil {
			t.Error("went on without an enrolment")
		}
		cfg.JoinToken = "another"
		source, stop = cp.start(t, cfg)
		synctest.Wait()
		if p, err := source.Peer(); err != nil || time.Until(p.NotAfter) < 59*time.Minute {
			t.Errorf("%+v, %v", p, err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// Somebody in between, with a root of their own, gets neither token nor trust,
// and a first enrolment says so at once.
func TestAnotherRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cp, between := newControlPlane(t), newControlPlane(t)
		_, stop := between.start(t, cp.config(t))
		time.Sleep(time.Second)
		if err := stop(); err == nil || !strings.Contains(err.Error(), "is not under the root") {
			t.Errorf("enrolment = %v, want one that has failed because of the root", err)
		}
		if between.attested.Load() != 0 {
			t.Error("the token was sent")
		}
	})
}

func TestDamagedBundle(t *testing.T) {
	dir := t.TempDir()
	if _, err := makeKey(dir); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"": "bundle.pem: it holds no root", "x": "bundle.pem: "} {
		if err := os.WriteFile(filepath.Join(dir, bundleFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(dir); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "%!") {
			t.Errorf("bundle %q: %v, want %q", content, err, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	for name, cfg := range map[string]Config{
		"no token":     {CADigest: digest},
		"no digest":    {JoinToken: "t"},
		"wrong digest": {JoinToken: "t", CADigest: "sha256:zz"},
	} {
		cfg.Dir = t.TempDir()
		if _, err := New(cfg, identity.NewSource(), slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Replicas are tried in turn: whoever does not answer, or is somebody else, keeps
// nobody from the others.
func TestInTurn(t *testing.T) {
	for name, addresses := range map[string][]string{
		"one is fine":  {"gone:1", "silent:1", "stranger:1", "cp:1"},
		"none is ours": {"stranger:1", "stranger:2"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cp, stranger := newControlPlane(t), newControlPlane(t)
				cfg := cp.config(t)
				cfg.Addresses = addresses
				source := identity.NewSource()
				c, err := New(cfg, source, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				c.dial = func(ctx context.Context, address string) (net.Conn, error) {
					switch host, _, _ := strings.Cut(address, ":"); host {
					case "gone":
						return nil, syscall.ECONNREFUSED
					case "silent":
						here, there := net.Pipe()
						context.AfterFunc(t.Context(), func() { there.Close() })
						go func() { _, _ = io.Copy(io.Discard, there) }()
						return here, nil
					case "stranger":
						return stranger.listener.DialContext(ctx)
					default:
						return cp.listener.DialContext(ctx)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- c.Run(ctx) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				_, err = source.Peer()
				if name == "none is ours" {
					if failed := <-ended; err == nil || !errors.Is(failed, errFinal) || !strings.Contains(failed.Error(), "stranger:2") {
						t.Errorf("enrolled: %v; ended with %v, want errFinal that names the addresses", err == nil, failed)
					}
					cancel()
					return
				}
				if err != nil || cp.attested.Load() != 1 {
					t.Errorf("after a minute: %v, attested %d times", err, cp.attested.Load())
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
