package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/doctor"
)

// TestSidecar: a sidecar that runs and is fresh has nothing wrong; one that is
// stale, does not know its secret, or whose files others can read has.
func TestSidecar(t *testing.T) {
	t.Parallel()
	var stale bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/readyz" && stale:
			http.Error(w, `{"freshness":"stale"}`, http.StatusServiceUnavailable)
		case r.URL.Path == "/v1/sessions" && r.Header.Get("Authorization") != "Bearer s":
			http.Error(w, "no", http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "identity"), 0o700); err != nil {
		t.Fatal(err)
	}
	look := func() string {
		r := &doctor.Report{}
		r.Sidecar(t.Context(), dir, time.Now())
		r.Ready(t.Context(), strings.TrimPrefix(server.URL, "http://"))
		var bad []string
		for _, f := range r.Findings {
			if f.Level != doctor.OK {
				bad = append(bad, f.Text)
			}
		}
		return strings.Join(bad, "; ")
	}
	if got := look(); !strings.Contains(got, "it does not run") {
		t.Errorf("not running: %q", got)
	}
	write("endpoint.json", `{"url":"`+server.URL+`","secret":"s"}`, 0o600)
	write("local-secret", "s", 0o600)
	if got := look(); got != "it is not enrolled" {
		t.Errorf("not enrolled: %q", got)
	}
	write("identity/key.pem", "k", 0o600)
	write("identity/svid.pem", certificate(t, time.Now().Add(-time.Minute)), 0o600)
	if got := look(); !strings.Contains(got, "its certificate ended") {
		t.Errorf("an old certificate: %q", got)
	}
	write("identity/svid.pem", certificate(t, time.Now().Add(time.Hour)), 0o600)
	if got := look(); got != "" {
		t.Errorf("all is well: %q", got)
	}
	stale = true
	if got := look(); !strings.Contains(got, "denies every call") {
		t.Errorf("stale: %q", got)
	}
	stale = false
	write("local-secret", "s", 0o644)
	if got := look(); !strings.Contains(got, "others can read") {
		t.Errorf("open to others: %q", got)
	}
	write("local-secret", "s", 0o600)
	write("endpoint.json", `{"url":"`+server.URL+`","secret":"t"}`, 0o600)
	if got := look(); !strings.Contains(got, "does not know its own secret") {
		t.Errorf("another secret: %q", got)
	}
}

// certificate is one that ends then, in PEM.
func certificate(t *testing.T, ends time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: ends.Add(-2 * time.Hour), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
