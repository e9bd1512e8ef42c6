package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
)

// maxEndpoint is how many bytes the file may have by which a sidecar is reached.
const maxEndpoint = 64 << 10

// Sidecar looks at a sidecar of this machine by its state directory: whether it
// answers, and who can read its files.
func (r *Report) Sidecar(ctx context.Context, dir string, now time.Time) {
	what := "sidecar in " + dir
	if _, err := os.Stat(dir); err != nil {
		r.fail(what, "give the directory that reeve-sidecar run --state-dir has", "%s", err)
		return
	}
	for _, name := range []string{"", "identity", filepath.Join("identity", "key.pem"), "local-secret", "endpoint.json", "quota"} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			r.private("file", path)
		}
	}
	r.enrolled(what, dir, now)
	address, secret, err := endpoint(filepath.Join(dir, "endpoint.json"))
	if err != nil {
		r.fail(what, "reeve-sidecar run --state-dir "+dir, "it does not run: %s", err)
		return
	}
	r.answers(ctx, what, address, secret)
}

// private looks whether a file is its owner's alone.
func (r *Report) private(what, path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		r.fail(what+" "+path, "run this as the user that owns it", "%s", err)
	case info.Mode().Perm()&0o077 != 0:
		r.fail(what+" "+path, fmt.Sprintf("chmod go= %s", path), "others can read or write it (%s)", info.Mode().Perm())
	default:
		r.ok(what+" "+path, "its owner's alone")
	}
}

// enrolled looks at the sidecar's certificate.
func (r *Report) enrolled(what, dir string, now time.Time) {
	text, err := os.ReadFile(filepath.Join(dir, "identity", "svid.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		r.fail(what, "reevectl token create AGENT", "it is not enrolled")
		return
	}
	if err == nil {
		var ends time.Time
		if ends, err = profile.EndOf(text); err == nil && ends.After(now) {
			r.ok(what, "its certificate is good for %s, and is renewed by itself", output.Duration(ends.Sub(now)))
			return
		}
		if err == nil {
			err = fmt.Errorf("its certificate ended on %s", ends.Format(time.DateTime))
		}
	}
	r.fail(what, "if it is not renewed while it runs, enrol it again: reevectl token create AGENT", "%s", err)
}

// endpoint reads where a sidecar is reached and with what secret.
func endpoint(path string) (address, secret string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxEndpoint))
	if err != nil {
		return "", "", err
	}
	var e struct {
		URL    string `json:"url"`
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	return e.URL, e.Secret, nil
}

// answers asks the sidecar for its sessions, which only its agent may.
func (r *Report) answers(ctx context.Context, what, address, secret string) {
	dialer := &net.Dialer{}
	transport := &http.Transport{}
	url := address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		url = "http://sidecar"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/sessions", nil)
	if err != nil {
		r.fail(what, "start the sidecar again: it writes its files anew", "%s", err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		r.fail(what, "look whether it runs, and at its log", "does not answer at %s: %s", address, err)
		return
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		r.fail(what, "start the sidecar again: it writes its files anew", "does not know its own secret")
	default:
		r.ok(what, "answers at %s", address)
	}
}

// Ready asks a sidecar of this machine, at the address of its health, whether it
// may act: it is fresh, and can keep records.
func (r *Report) Ready(ctx context.Context, address string) {
	what := "sidecar at " + address
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		r.fail(what, "give host:port, as reeve-sidecar run --ops-listen has", "%s", err)
		return
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		r.warn(what, "give --sidecar-ops what reeve-sidecar run --ops-listen has; if it has that, look whether it runs",
			"whether it is fresh is not known: %s", err)
		return
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxEndpoint)) // what was not said is not told
	if resp.StatusCode != http.StatusOK {
		r.fail(what, "look at its log, and whether it reaches the control plane", "denies every call: %s", strings.TrimSpace(string(said)))
		return
	}
	r.ok(what, "is fresh, and keeps records")
}
