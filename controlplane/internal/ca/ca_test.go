package ca

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/sidecar/identity"
)

var td = spiffeid.RequireTrustDomainFromString("example.test")

// memory keeps one authority.
type memory struct{ kept proto.Message }

func (m *memory) GetOrCreate(_ context.Context, _, _ string, create func() (proto.Message, error)) (_ proto.Message, err error) {
	if m.kept == nil {
		m.kept, err = create()
	}
	return m.kept, err
}

func newAuthority(t *testing.T) *Authority {
	t.Helper()
	a, err := Open(t.Context(), &memory{}, Config{TrustDomain: td, KEKFile: filepath.Join(t.TempDir(), "kek")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOpenAgain(t *testing.T) {
	m := &memory{}
	cfg := Config{TrustDomain: td, KEKFile: filepath.Join(t.TempDir(), "new", "kek")}
	log := slog.New(slog.DiscardHandler)
	first, err := Open(t.Context(), m, cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(cfg.KEKFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("KEK file: %v, %v", info, err)
	}
	again, err := Open(t.Context(), m, cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest() != again.Digest() || !first.key.Equal(again.key) {
		t.Error("it is another authority")
	}
	if left, _ := os.ReadDir(filepath.Dir(cfg.KEKFile)); len(left) != 1 {
		t.Errorf("left beside the KEK: %v", left)
	}
	cfg.TrustDomain = spiffeid.RequireTrustDomainFromString("other.test")
	if _, err := Open(t.Context(), m, cfg, log); err == nil {
		t.Error("opened for another trust domain")
	}
}

func TestWrongKEK(t *testing.T) {
	m := &memory{}
	cfg := Config{TrustDomain: td, KEKFile: filepath.Join(t.TempDir(), "kek")}
	log := slog.New(slog.DiscardHandler)
	if _, err := Open(t.Context(), m, cfg, log); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"another": hex.EncodeToString(make([]byte, kekSize)),
		"short":   "abcd",
		"no hex":  strings.Repeat("x", 2*kekSize),
		"empty":   "",
	} {
		if err := os.WriteFile(cfg.KEKFile, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), m, cfg, log); !errors.Is(err, ErrKEK) || !strings.Contains(err.Error(), cfg.KEKFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(cfg.KEKFile); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), m, cfg, log); !errors.Is(err, ErrKEK) {
		t.Errorf("none: %v", err)
	}
	if _, err := os.Stat(cfg.KEKFile); err == nil {
		t.Error("another KEK was made for an authority that has one")
	}
}

// P5: who a certificate names is what the store says, never what the request says.
func TestIssue(t *testing.T) {
	a := newAuthority(t)
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, id string
		kind     identity.PeerKind
		life     time.Duration
		issue    func(name string) ([][]byte, time.Time, error)
	}{
		{
			name: "namespaces/default/agents/support", id: "spiffe://example.test/ns/default/agent/support",
			kind: identity.Agent, life: time.Hour,
			issue: func(name string) ([][]byte, time.Time, error) { return a.IssueAgent(&key.PublicKey, name, "u1") },
		},
		{
			name: "admins/ann@example.com", id: "spiffe://example.test/admin/annATexample.com",
			kind: identity.Admin, life: 90 * 24 * time.Hour,
			issue: func(name string) ([][]byte, time.Time, error) { return a.IssueAdmin(&key.PublicKey, name, "u1", 0) },
		},
	} {
		chain, notAfter, err := tt.issue(tt.name)
		if err != nil {
			t.Fatal(err)
		}
		svid, _, err := identity.ParseSVID(chain, a.Roots(), key)
		if err != nil {
			t.Fatal(err)
		}
		p, err := identity.PeerFromCertificate(svid.Certificates[0])
		if err != nil {
			t.Fatal(err)
		}
		want := identity.Peer{
			ID: spiffeid.RequireFromString(tt.id), Kind: tt.kind, Name: tt.name,
			UID: "u1", KeyDigest: digest, NotAfter: notAfter.UTC(),
		}
		if p != want {
			t.Errorf("got %+v, want %+v", p, want)
		}
		if life := time.Until(notAfter); life > tt.life || life < tt.life-time.Minute {
			t.Errorf("%s lives %s", tt.name, life)
		}
		if leaf := svid.Certificates[0]; leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
			t.Errorf("%s can sign", tt.name)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	a := newAuthority(t)
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, uid string
		ttl       time.Duration
	}{
		{"namespaces/a/agents/b/c", "u", 0},
		{"namespaces/a/agents/..", "u", 0},
		{"namespaces//agents/b", "u", 0},
		{"admins/a/b", "u", 0},
		{"admins/ATHENA", "u", 0},
		{"controlplane", "u", 0},
		{"admins/a", "", 0},
		{"admins/a", "u", 400 * 24 * time.Hour},
		{"admins/a", "u", -1},
	} {
		if _, _, err := a.IssueAdmin(&key.PublicKey, tt.name, tt.uid, tt.ttl); err == nil {
			t.Errorf("issued to %+v", tt)
		}
	}
}

func TestControlPlaneRenewsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		src := identity.NewSource()
		names := ServerNames{DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
		if err := a.IssueControlPlane(src, names); err != nil {
			t.Fatal(err)
		}
		first, err := src.Peer()
		if err != nil {
			t.Fatal(err)
		}
		if first.ID != identity.ControlPlaneID(td) || first.Kind != identity.ControlPlane {
			t.Errorf("issued to %v", first.ID)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.RunControlPlane(ctx, src, names) }()
		time.Sleep(svidLife/2 - time.Second)
		synctest.Wait()
		if p, _ := src.Peer(); p != first {
			t.Error("renewed too early")
		}
		time.Sleep(checkEvery + 2*time.Second)
		synctest.Wait()
		second, err := src.Peer()
		if err != nil {
			t.Fatal(err)
		}
		if !second.NotAfter.After(first.NotAfter) || second.KeyDigest == first.KeyDigest {
			t.Errorf("not renewed: ends %v, then %v", first.NotAfter, second.NotAfter)
		}
		svid, err := src.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		if err := svid.Certificates[0].VerifyHostname("127.0.0.1"); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
