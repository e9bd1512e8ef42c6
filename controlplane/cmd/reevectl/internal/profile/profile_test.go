package profile_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
)

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "config.yaml")
	f, err := profile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Pick(""); err == nil || !strings.Contains(err.Error(), "reevectl context add") {
		t.Errorf("of none: %v", err)
	}
	for _, name := range []string{"prod", "test", "prod"} {
		if err := f.Put(profile.Context{Name: name, Addresses: profile.Addresses{name + ":1"}, Certificate: "a.pem", Key: "/k.pem", CA: "c.pem"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("saved: %v, %v", info, err)
	}
	again, err := profile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, again, cmpopts.IgnoreUnexported(profile.File{})); diff != "" || len(again.Contexts) != 2 {
		t.Errorf("read back %v (-saved +read):\n%s", again.Contexts, diff)
	}
	for name, want := range map[string]string{"": "prod", "test": "test"} {
		if c, err := again.Pick(name); err != nil || c.Name != want || !filepath.IsAbs(c.Certificate) || c.Key != "/k.pem" {
			t.Errorf("Pick(%q) = %v, %v", name, c, err)
		}
	}
	if _, err := again.Pick("dev"); err == nil || !strings.Contains(err.Error(), "use one of prod, test") {
		t.Errorf("of another name: %v", err)
	}
}

// TestBootstrapFile reads the file that a control plane leaves, from wherever it
// was copied to.
func TestBootstrapFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "context.yaml")
	text := "# made at the first start\ncontexts:\n  - name: bootstrap\n    address: 127.0.0.1:7443\n" +
		"    certificate: admin.pem\n    key: admin-key.pem\n    ca: ca.pem\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := profile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Pick("")
	if err != nil || c.Certificate != filepath.Join(dir, "admin.pem") || c.CA != filepath.Join(dir, "ca.pem") {
		t.Errorf("picked %v, %v", c, err)
	}
	if err := os.WriteFile(path, []byte(text+"    adress: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := profile.Load(path); err == nil || !strings.Contains(err.Error(), "adress") {
		t.Errorf("with a misspelt field: %v", err)
	}
}

func TestDefaultPath(t *testing.T) {
	t.Parallel()
	for want, env := range map[string]map[string]string{
		"/home/dana/.config/reeve/config.yaml": {"HOME": "/home/dana"},
		"/xdg/reeve/config.yaml":               {"HOME": "/home/dana", "XDG_CONFIG_HOME": "/xdg"},
		"/my/own":                              {"HOME": "/home/dana", "XDG_CONFIG_HOME": "/xdg", "REEVECTL_CONFIG": "/my/own"},
	} {
		if got := profile.DefaultPath(func(name string) string { return env[name] }); got != want {
			t.Errorf("%v: %s; want %s", env, got, want)
		}
	}
}

func TestOrLocal(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	getenv := func(name string) string { return map[string]string{"HOME": home}[name] }
	mine, err := profile.Load(profile.DefaultPath(getenv))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := mine.OrLocal(getenv); err != nil || got != mine {
		t.Errorf("without a control plane of this machine: %+v, %v", got, err)
	}
	dir := filepath.Join(home, ".local/share/reeve/controlplane/bootstrap")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := "contexts: [{name: bootstrap, address: 127.0.0.1:7443, certificate: admin.pem, key: k.pem, ca: ca.pem}]"
	if err := os.WriteFile(filepath.Join(dir, "context.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := mine.OrLocal(getenv)
	if err != nil {
		t.Fatal(err)
	}
	c, err := got.Pick("")
	if err != nil || c.Name != "bootstrap" || c.Certificate != filepath.Join(dir, "admin.pem") {
		t.Errorf("with one: %+v, %v", c, err)
	}
}

func TestDialRefusesBadFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		certificate, want string
	}{
		"missing": {filepath.Join(dir, "none.pem"), `context "prod": read certificate: `},
		"empty":   {file("empty.pem", "no PEM"), "no certificate in it"},
	} {
		_, _, err := profile.Context{Name: "prod", Certificate: c.certificate}.Dial(time.Now())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", name, err, c.want)
		}
	}
}

func TestDialSaysWhatToDoAfterTheEnd(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "admin.pem")
	if err := profile.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		t.Fatal(err)
	}
	_, _, err = profile.Context{Name: "prod", Certificate: path}.Dial(end)
	if err == nil {
		t.Fatal("dialled with a certificate that has ended")
	}
	for _, word := range []string{"ended on 2026-11-23", "reevectl admin create", "reeve-controlplane recover-admin"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q; want %q in it", err, word)
		}
	}
}
