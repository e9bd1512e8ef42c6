package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/e2e/stack"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// TestForeignCertificates shows at each listener every certificate that does
// not belong there, the right names in wrong hands among them (P5, P7).
func TestForeignCertificates(t *testing.T) {
	s := start(t, stack.Config{})
	admin, err := s.AdminTLS()
	if err != nil {
		t.Fatal(err)
	}
	sidecar := sidecarTLS(t, s)
	nobody := &tls.Config{RootCAs: admin.RootCAs, MinVersion: tls.VersionTLS13}
	forged := func(id string, ends time.Time) *tls.Config {
		return &tls.Config{
			RootCAs: admin.RootCAs, MinVersion: tls.VersionTLS13,
			Certificates: []tls.Certificate{forge(t, id, ends)},
		}
	}
	const (
		asAdmin   = "spiffe://reeve.local/admin/bootstrap"
		asSidecar = "spiffe://reeve.local/ns/support/agent/frontline"
	)
	later := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name    string
		address string
		cfg     *tls.Config
		good    bool
	}{
		{"the admin listener, its administrator", s.AdminAddress, admin, true},
		{"the admin listener, nobody", s.AdminAddress, nobody, false},
		{"the admin listener, a sidecar", s.AdminAddress, sidecar, false},
		{"the admin listener, an administrator by another authority", s.AdminAddress, forged(asAdmin, later), false},
		{"the admin listener, one that has expired too", s.AdminAddress, forged(asAdmin, time.Now().Add(-time.Minute)), false},
		{"the sidecar listener, its sidecar", s.SidecarAddress, sidecar, true},
		{"the sidecar listener, nobody", s.SidecarAddress, nobody, false},
		{"the sidecar listener, an administrator", s.SidecarAddress, admin, false},
		{"the sidecar listener, a sidecar by another authority", s.SidecarAddress, forged(asSidecar, later), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := stack.Dial(c.address, c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			code := status.Code(ask(t, c.address == s.AdminAddress, conn))
			let := code == codes.OK || code == codes.NotFound || code == codes.FailedPrecondition
			if let != c.good {
				t.Errorf("answered %v, let in %t, want %t", code, let, c.good)
			}
			if !let && code != codes.Unavailable && code != codes.Unauthenticated && code != codes.PermissionDenied {
				t.Errorf("refused with %v", code)
			}
		})
	}
}

// ask makes the listener's simplest call.
func ask(t *testing.T, admin bool, conn *grpc.ClientConn) error {
	t.Helper()
	if admin {
		_, err := adminv1.NewAgentsClient(conn).ListAgents(t.Context(), &adminv1.ListAgentsRequest{Parent: "namespaces/" + stack.Namespace})
		return err
	}
	_, err := grantv1.NewFreshnessClient(conn).Renew(t.Context(), &grantv1.RenewRequest{
		Stream: strings.Repeat("0", 32), RequestId: strings.Repeat("0", 32),
	})
	return err
}

// TestTokens: a join token works once; whoever comes second is refused with a
// sentence, and the agent is suspended, since one of the two is a thief.
func TestTokens(t *testing.T) {
	s := start(t, stack.Config{})
	d := drive(t, s, 1, "search_tickets", "text")
	d.flows(t, 10)

	wrong := stack.Token{Token: "rjt_" + strings.Repeat("0", 64)}
	token, err := s.Token(t.Context(), stack.Agent)
	if err != nil {
		t.Fatal(err)
	}
	wrong.CADigest = token.CADigest
	for name, refused := range map[string]stack.Token{
		"a token that nobody made":   wrong,
		"another authority's digest": {Token: token.Token, CADigest: "sha256:" + strings.Repeat("0", 64)},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // it may hope that another try mends it
		if out, err := s.EnrolWith(ctx, refused, t.TempDir()); err == nil {
			t.Errorf("%s enrolled: %s", name, out)
		}
		cancel()
	}
	if d.denied.Load() > 0 {
		t.Error("calls were denied for tokens that are none")
	}

	if _, err := s.EnrolWith(t.Context(), token, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	d.flows(t, 10)
	_, err = s.EnrolWith(t.Context(), token, t.TempDir())
	if err == nil {
		t.Fatal("a used token enrolled again")
	}
	if !strings.Contains(err.Error(), "token") {
		t.Errorf("a used token was refused with %q, want a sentence about the token", err)
	}
	eventually(t, "the agent is suspended", func() bool { return d.denied.Load() > 0 })
	out, err := s.Reevectl(t.Context(), "get", "agents", stack.Agent, "-n", stack.Namespace, "-o", "yaml")
	if err != nil || !strings.Contains(string(out), "SUSPENDED") {
		t.Errorf("the agent is %s, error %v; want SUSPENDED", out, err)
	}
}

// sidecarTLS is what someone has who stole the sidecar's own files.
func sidecarTLS(t *testing.T, s *stack.Stack) *tls.Config {
	t.Helper()
	dir := filepath.Join(s.StateDir, "identity")
	cfg, err := stack.ClientTLS(filepath.Join(dir, "svid.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "bundle.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// forge makes a certificate with the right name by an authority of its own.
func forge(t *testing.T, id string, ends time.Time) tls.Certificate {
	t.Helper()
	name, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(template, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rootKey, leafKey := key(), key()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "reeve.local"}},
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: ends, URIs: []*url.URL{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return tls.Certificate{
		Certificate: [][]byte{sign(leaf, root, &leafKey.PublicKey, rootKey), sign(root, root, &rootKey.PublicKey, rootKey)},
		PrivateKey:  leafKey,
	}
}
