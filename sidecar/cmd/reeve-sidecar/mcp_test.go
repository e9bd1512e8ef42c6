package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runs runs a command and returns what it prints.
func runs(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := command()
	c.SetArgs(args)
	c.SetIn(strings.NewReader(stdin))
	c.SetOut(&out)
	c.SetErr(io.Discard)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func TestPrintConfig(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for client, want := range map[string]string{
		"claude":  `{"mcpServers":{"tickets":{"args":["mcp","--server","tickets"],"command":"reeve-sidecar"}}}`,
		"cursor":  `{"mcpServers":{"tickets":{"args":["mcp","--server","tickets"],"command":"reeve-sidecar"}}}`,
		"vscode":  `{"servers":{"tickets":{"args":["mcp","--server","tickets"],"command":"reeve-sidecar","type":"stdio"}}}`,
		"generic": `{"args":["mcp","--server","tickets"],"command":"reeve-sidecar"}`,
	} {
		out, err := runs(t, "", "mcp", "--server", "tickets", "--print-config", client)
		var compact bytes.Buffer
		if err != nil || json.Compact(&compact, []byte(out)) != nil || compact.String() != strings.ReplaceAll(want, "reeve-sidecar", program) {
			t.Errorf("%s: %s, %v", client, out, err)
		}
	}
	out, err := runs(t, "", "mcp", "--server", "tickets", "--print-config", "claude", "--state-dir", "/var/lib/reeve")
	if err != nil || !strings.Contains(out, `"--state-dir"`) || !strings.Contains(out, `"/var/lib/reeve"`) {
		t.Errorf("with a state directory: %s, %v", out, err)
	}
	out, err = runs(t, "", "mcp", "--server", "tickets", "--print-config", "generic", "--session-purpose", "triage", "--session-max-calls", "3")
	var compact bytes.Buffer
	if want := `"--session-max-calls","3","--session-purpose","triage"]`; err != nil || json.Compact(&compact, []byte(out)) != nil || !strings.Contains(compact.String(), want) {
		t.Errorf("with a session: %s, %v", out, err)
	}
}

// What is printed is found from anywhere, and by the link that people keep.
func TestSelf(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	link := filepath.Join(dir, "linked-sidecar")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Chdir(dir)
	for called, want := range map[string]string{
		link: link, "linked-sidecar": link, "./linked-sidecar": link, program: program, "nowhere": program, "/bin/sh": program,
	} {
		if got := self(called); got != want {
			t.Errorf("called as %s, it is %s; want %s", called, got, want)
		}
	}
}

func TestMCPUsage(t *testing.T) {
	for _, args := range [][]string{
		{"mcp"},
		{"mcp", "--server", "a/b"},
		{"mcp", "--server", "tickets", "--print-config", "emacs"},
		{"mcp", "--server", "tickets", "--session", "s", "--session-purpose", "p"},
		{"session", "end"},
		{"session", "list", "-o", "xml"},
	} {
		if _, err := runs(t, "", args...); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// localAPI is a sidecar's local door with sessions and one server, and returns
// its state directory.
func localAPI(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/sessions", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"purpose":"triage"`) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"reason":"INVALID_REQUEST","message":"A purpose is wanted."}}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"name":"namespaces/default/agents/clerk/sessions/s-1","id":"s-1","purpose":"triage","expireTime":"2030-01-01T00:00:00Z","claimedBy":"this"}`)
	})
	mux.HandleFunc("GET /v1/sessions", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"sessions":[{"name":"n","id":"s-1","origin":"agent","purpose":"tri\u001bage","expireTime":"2030-01-01T00:00:00Z","claimedBy":"this","maxCalls":5}]}`)
	})
	mux.HandleFunc("DELETE /v1/sessions/s-1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /mcp/tickets", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer the-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	endpoint := `{"url":"` + server.URL + `","secret":"the-secret"}`
	if err := os.WriteFile(filepath.Join(dir, "endpoint.json"), []byte(endpoint), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSessions(t *testing.T) {
	dir := localAPI(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"start", "--purpose", "triage", "--ttl", "1h"}, "s-1\n"},
		{[]string{"start", "--purpose", "triage", "-o", "json"}, `"id": "s-1"`},
		{[]string{"start"}, "error: A purpose is wanted."},
		{[]string{"list"}, "ID   ORIGIN  EXPIRES               CLAIMED BY  MAX CALLS  PURPOSE\ns-1  agent   2030-01-01T00:00:00Z  this        5          \"tri\\x1bage\"\n"},
		{[]string{"list", "-o", "json"}, `"maxCalls": 5`},
		{[]string{"end", "s-1"}, ""},
		{[]string{"end", "s-2"}, "error: the sidecar answered 404 Not Found"},
	} {
		out, err := runs(t, "", append(append([]string{"session"}, c.args...), "--state-dir", dir)...)
		if err != nil {
			out += "error: " + err.Error()
		}
		if !strings.Contains(out, c.want) || c.want == "" && out != "" {
			t.Errorf("%q printed %q, want %q", c.args, out, c.want)
		}
	}
}

// What the launcher prints is the protocol and nothing else.
func TestMCP(t *testing.T) {
	out, err := runs(t, `{"jsonrpc":"2.0","id":1,"method":"ping"}`+"\n", "mcp", "--server", "tickets", "--state-dir", localAPI(t), "--log-level", "debug")
	if want := `{"jsonrpc":"2.0","id":1,"result":{}}` + "\n"; err != nil || out != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}
