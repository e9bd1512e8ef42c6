package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rules is the architecture: who may not import whom. Patterns are import
// paths, ours relative to the module; a final /... takes in the package itself
// and all below it, and {a,b} is either.
var rules = []rule{
	{
		from: "sidecar/...", to: "controlplane/...",
		why: "control plane → what a grant means ← sidecar, never the other way",
	},
	{
		from: "controlplane/...", to: "sidecar/internal/...",
		why: "what the control plane shares with sidecars is what a grant means, not how it is enforced",
	},
	{
		from: "{sidecar,controlplane,gen}/...", to: "{e2e,examples}/...",
		why: "the product does not know who tries it",
	},
	{
		from: "gen/...", to: "{sidecar,controlplane}/...",
		why: "generated messages are a leaf",
	},
	{
		from:   "sidecar/{grant,pdp,condition,strictjson,schema}/...",
		to:     "{net,os,syscall,google.golang.org/grpc,golang.org/x/sys}/...",
		except: []string{"sidecar/grant → net/url"}, // a parser of text
		why:    "a decision is a pure function: no network, no files, no transport",
	},
	{
		from: "{sidecar/internal,controlplane/internal}/...", to: "{sidecar,controlplane}",
		why: "a room does not know the house it is in",
	},
	{
		from: "sidecar/internal/...", to: "sidecar/internal/...",
		except: []string{
			"sidecar/internal/xds → sidecar/internal/replica",
			"sidecar/internal/pep → sidecar/internal/replica",
			"sidecar/internal/pep → sidecar/internal/quota",
			"sidecar/internal/session → sidecar/internal/replica",
			"sidecar/internal/mcp/... → sidecar/internal/pep",
			"sidecar/internal/{mcp/wire,stdio} → sidecar/internal/gated",
			"sidecar/internal/mcp → sidecar/internal/door",
			"sidecar/internal/mcp → sidecar/internal/replica",
			"sidecar/internal/audit → sidecar/internal/spool",
			"sidecar/internal/launcher → sidecar/internal/stdio/wire",
			"sidecar/internal/launcher → sidecar/internal/mcp/sse",
		},
		why: "rooms meet through small interfaces that the composition root joins",
	},
	{
		from: "controlplane/internal/...", to: "controlplane/internal/...",
		except: []string{
			"controlplane/internal/snapshot → controlplane/internal/store",
			"controlplane/internal/xds → controlplane/internal/snapshot",
			"controlplane/internal/xds → controlplane/internal/rollout",
			"controlplane/internal/admin/... → controlplane/internal/store",
			"controlplane/internal/replicas → controlplane/internal/rollout",
			"controlplane/internal/replicas → controlplane/internal/store",
			"controlplane/internal/enroll → controlplane/internal/store",
			"controlplane/internal/claims → controlplane/internal/store",
			"controlplane/internal/observations → controlplane/internal/store",
		},
		why: "rooms meet through small interfaces that the composition root joins",
	},
	{
		from: "controlplane/cmd/reevectl/...", to: "{controlplane/internal,sidecar}/...",
		except: []string{"sidecar/identity", "sidecar/schema"},
		why:    "the command line talks the admin API, as anyone else's would",
	},
	{
		from: "{sidecar,controlplane,examples,e2e}/...", to: "go.etcd.io/...",
		except: []string{"controlplane/internal/store"},
		why:    "one room knows etcd",
	},
	{
		from: "{sidecar,controlplane,examples,e2e}/...", to: "github.com/nats-io/...",
		except: []string{"controlplane/internal/audit/journal"},
		why:    "one room knows NATS",
	},
	{
		from: "sidecar/...", to: "buf.build/go/protovalidate/...",
		why: "requests are validated where they are admitted; a sidecar stays small",
	},
	{
		from: "{sidecar,controlplane}/...", to: "{flag,github.com/spf13/pflag,github.com/spf13/cobra}",
		except: []string{"controlplane/cmd/...", "sidecar/cmd/...", "sidecar/settings"},
		why:    "settings are data by the time a room sees them",
	},
	{
		from: "{sidecar,controlplane}/...", to: "{log,testing,expvar}",
		why: "logs go through the *slog.Logger that was passed in; tests stay in tests",
	},
}

// A rule forbids packages that match from to import packages that match to.
type rule struct {
	from, to string
	// except lists what the rule leaves alone: a package, either side, or
	// "importer → imported". One that excuses nothing fails the test.
	except []string
	why    string
}

// junk names no noun, so everything ends up there.
var junk = []string{
	"base", "common", "core", "helper", "helpers", "lib", "misc", "shared",
	"testutil", "testutils", "tools", "types", "util", "utils",
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, v := range violations(rules, parseModule(t)) {
		t.Error(v)
	}
}

// TestImportsAreSeen is the control of TestImports: each of these must be
// reported.
func TestImportsAreSeen(t *testing.T) {
	t.Parallel()
	rules := []rule{{
		from: "sidecar/{grant,pdp}", to: "{net,controlplane}/...",
		except: []string{"sidecar/grant → net/netip"},
		why:    "pure",
	}}
	imports := func(paths ...string) *pkg {
		p := &pkg{imports: make(map[string]string)}
		for _, path := range paths {
			p.imports[path] = "a.go"
		}
		return p
	}
	for _, c := range []struct {
		name     string
		packages map[string]*pkg
		want     string
	}{
		{"allowed", map[string]*pkg{"sidecar/grant": imports("net/netip", "nettle", "sidecar/pdp")}, ""},
		{"forbidden", map[string]*pkg{"sidecar/grant": imports("net/netip", "net")}, "a.go: sidecar/grant imports net: pure"},
		{"below", map[string]*pkg{"sidecar/grant": imports("net/netip", "net/http")}, "a.go: sidecar/grant imports net/http: pure"},
		{"not excused", map[string]*pkg{"sidecar/grant": imports("net/netip"), "sidecar/pdp": imports("net/netip")}, "a.go: sidecar/pdp imports net/netip: pure"},
		{"stale exception", map[string]*pkg{"sidecar/grant": imports()}, `stale exception: sidecar/{grant,pdp} no longer needs "sidecar/grant → net/netip"`},
		{"stale rule", map[string]*pkg{"sidecar": imports()}, "stale rule: no package matches sidecar/{grant,pdp}"},
	} {
		got := violations(rules, c.packages)
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPackageNames(t *testing.T) {
	t.Parallel()
	for path, p := range parseModule(t) {
		if slices.Contains(junk, filepath.Base(path)) || slices.Contains(junk, p.name) {
			t.Errorf("%s: name the noun; %q is none", path, p.name)
		}
		if matches("gen/...", path) {
			continue
		}
		if len(p.docs) != 1 {
			t.Errorf("%s: %d package comments %v, want exactly one", path, len(p.docs), p.docs)
		}
		if p.inits > 0 {
			t.Errorf("%s: %d init functions, want none", path, p.inits)
		}
	}
}

// violations returns what breaks the rules, and which of the rules and
// exceptions have nothing left to say.
func violations(rules []rule, packages map[string]*pkg) []string {
	var found []string
	for _, r := range rules {
		applied := false
		excused := make(map[string]bool)
		for _, path := range slices.Sorted(maps.Keys(packages)) {
			if !matches(r.from, path) {
				continue
			}
			applied = true
			for _, imported := range slices.Sorted(maps.Keys(packages[path].imports)) {
				if room(path) == room(imported) || !matches(r.to, imported) {
					continue
				}
				if e, ok := r.excuses(path, imported); ok {
					excused[e] = true
					continue
				}
				found = append(found, fmt.Sprintf("%s: %s imports %s: %s", packages[path].imports[imported], path, imported, r.why))
			}
		}
		if !applied {
			found = append(found, "stale rule: no package matches "+r.from)
		}
		for _, e := range r.except {
			if !excused[e] {
				found = append(found, fmt.Sprintf("stale exception: %s no longer needs %q", r.from, e))
			}
		}
	}
	return found
}

// room returns the room that a package is in: the folder under internal, with
// all that is below it, or the package itself.
func room(path string) string {
	house, within, ok := strings.Cut(path, "/internal/")
	if !ok {
		return path
	}
	name, _, _ := strings.Cut(within, "/")
	return house + "/internal/" + name
}

func (r rule) excuses(from, to string) (string, bool) {
	for _, e := range r.except {
		importer, imported, edge := strings.Cut(e, " → ")
		switch {
		case edge && matches(importer, from) && matches(imported, to),
			!edge && (matches(e, from) || matches(e, to)):
			return e, true
		}
	}
	return "", false
}

// matches reports whether an import path fits a pattern.
func matches(pattern, path string) bool {
	before, rest, ok := strings.Cut(pattern, "{")
	if ok {
		alternatives, after, _ := strings.Cut(rest, "}")
		for a := range strings.SplitSeq(alternatives, ",") {
			if matches(before+a+after, path) {
				return true
			}
		}
		return false
	}
	tree, ok := strings.CutSuffix(pattern, "/...")
	return path == tree || ok && strings.HasPrefix(path, tree+"/")
}
