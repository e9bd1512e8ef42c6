package controlplane_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A control plane whose store is gone says so within the second that probes give
// it, and that it is alive.
func TestNotReadyWithoutStore(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd and two control planes")
	}
	h := newHouse(t, 2) // one log needs two
	h.configs[0].OpsListen = freePorts(t, 1)[0]
	for i := range h.configs {
		h.start(i)
	}
	probe := func(path string) (code int, body string, took time.Duration) {
		began := time.Now()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.configs[0].OpsListen+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error(), time.Since(began)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text), time.Since(began)
	}
	deadline := time.Now().Add(20 * time.Second)
	for code, body := 0, ""; code != http.StatusOK; code, body, _ = probe("/readyz") {
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %d %s", code, body)
		}
	}
	h.etcd()
	code, body, took := probe("/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "the store does not answer") {
		t.Errorf("/readyz without the store = %d %s, want 503 that names the store", code, body)
	}
	if took > 1500*time.Millisecond {
		t.Errorf("/readyz took %v, longer than probes wait", took)
	}
	if code, body, _ := probe("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz without the store = %d %s, want 200: nothing is mended by a restart", code, body)
	}
}
