package grant_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/schema"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

func launched() *grantv1.Server {
	return &grantv1.Server{Name: "namespaces/shop/servers/files", Upstream: &grantv1.Server_Stdio_{Stdio: &grantv1.Server_Stdio{
		Command: []string{"npx", "-y", "files", ""}, Env: map[string]string{"ROOT": "/srv", "_x1": ""}, WorkingDir: "/srv/files",
	}}}
}

func TestStdio(t *testing.T) {
	t.Parallel()
	for _, m := range []*grantv1.Server{launched(), grant.ProjectServer(launched())} {
		s, err := grant.ParseServer(m, 4)
		if err != nil {
			t.Fatal(err)
		}
		if s.URL() != "" || s.Stdio() != m.GetStdio() || s.ID() != "files" {
			t.Errorf("got %v", s)
		}
	}
	many := make([]string, 65)
	for i := range many {
		many[i] = strings.Repeat("x", i+1)
	}
	env := func(name, value string) func(*grantv1.Server_Stdio) {
		return func(m *grantv1.Server_Stdio) { m.Env = map[string]string{"A": "b", name: value} }
	}
	for want, changes := range map[string][]func(*grantv1.Server_Stdio){
		"stdio: invalid: it has a field": {func(m *grantv1.Server_Stdio) { m.ProtoReflect().SetUnknown([]byte{0xa0, 0x06, 0x01}) }},
		"stdio.command: ": {
			func(m *grantv1.Server_Stdio) { m.Command = nil },
			func(m *grantv1.Server_Stdio) { m.Command = []string{"", "x"} },
			func(m *grantv1.Server_Stdio) { m.Command = many },
		},
		"stdio.command[1]: ": {
			func(m *grantv1.Server_Stdio) { m.Command[1] = "a\x00b" },
			func(m *grantv1.Server_Stdio) { m.Command[1] = strings.Repeat("x", 4097) },
		},
		"stdio.env: ": {func(m *grantv1.Server_Stdio) {
			for _, name := range many {
				m.Env[name] = ""
			}
		}},
		`stdio.env["LD_PRELOAD"]: invalid: it would have the loader`:            {env("LD_PRELOAD", "/tmp/x.so")},
		`stdio.env["LD_LIBRARY_PATH"]: `:                                        {env("LD_LIBRARY_PATH", "/tmp")},
		`stdio.env["DYLD_INSERT_LIBRARIES"]: invalid: it would have the loader`: {env("DYLD_INSERT_LIBRARIES", "/tmp/x")},
		`stdio.env["1A"]: `:  {env("1A", "")},
		`stdio.env["A=B"]: `: {env("A=B", "")},
		`stdio.env[""]: `:    {env("", "")},
		`stdio.env["B"]: invalid: it must not contain a NUL`: {env("B", "\x00")},
		"stdio.working_dir: invalid: want an absolute path": {
			func(m *grantv1.Server_Stdio) { m.WorkingDir = "files" },
			func(m *grantv1.Server_Stdio) { m.WorkingDir = "./files" },
		},
		"stdio.working_dir: invalid: it must not": {func(m *grantv1.Server_Stdio) { m.WorkingDir = "/a\x00" }},
	} {
		for _, change := range changes {
			m := launched()
			change(m.GetStdio())
			if e, err := grant.ParseEntry(m, 1); e != nil || !errors.Is(err, grant.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, %v\nwant ErrInvalid that says %q", e, err, want)
			}
		}
	}
}

const definition = `{"name": "refund", "title": "Refund", "_meta": {"v": 1e2},
	"inputSchema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}}`

func pinned(tb testing.TB) *grantv1.Tool {
	tb.Helper()
	m := &grantv1.Tool{
		Name: "namespaces/shop/servers/tickets/tools/refund", Effect: grantv1.Tool_WRITE, Reach: grantv1.Tool_CLOSED,
		Definition: new(structpb.Struct),
	}
	if err := protojson.Unmarshal([]byte(definition), m.GetDefinition()); err != nil {
		tb.Fatal(err)
	}
	return m
}

// TestPin: a tool is pinned to the definition that it is stored with, as much
// where it is streamed as where it is stored, and the definition is not streamed.
func TestPin(t *testing.T) {
	t.Parallel()
	const inputSchema = `{"properties":{"n":{"type":"integer"}},"required":["n"],"type":"object"}`
	digest, _, err := schema.Digest([]byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	stale := pinned(t)
	stale.Digest, stale.InputSchema = "sha256:"+strings.Repeat("0", 64), `{"type":"object"}` // output only
	streamed := grant.ProjectTool(stale)
	want := &grantv1.Tool{Name: stale.GetName(), Effect: stale.GetEffect(), Reach: stale.GetReach(), Digest: digest, InputSchema: inputSchema}
	if diff := cmp.Diff(want, streamed, protocmp.Transform()); diff != "" {
		t.Errorf("-want +streamed:\n%s", diff)
	}
	for _, m := range []*grantv1.Tool{pinned(t), stale, streamed, grant.ProjectTool(streamed)} {
		tool, err := grant.ParseTool(m, 3)
		if err != nil {
			t.Fatal(err)
		}
		if !tool.Pinned() || tool.Digest() != digest || tool.InputSchema() != inputSchema {
			t.Errorf("got %s and %s", tool.Digest(), tool.InputSchema())
		}
		for args, ok := range map[string]bool{`{"n": 5}`: true, `{"n": "5"}`: false, `{"n": 5, "N": 6}`: false, `{}`: false} {
			v, err := strictjson.Parse([]byte(args), strictjson.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if err := tool.Arguments().Check(v.(*strictjson.Object)); (err == nil) != ok {
				t.Errorf("%s: %v", args, err)
			}
		}
	}
	free, err := grant.ParseTool(&grantv1.Tool{Name: stale.GetName(), Effect: stale.GetEffect(), Reach: stale.GetReach()}, 1)
	if err != nil || free.Pinned() || free.Digest() != "" || free.InputSchema() != "" || free.Arguments() != nil {
		t.Errorf("it is not pinned, and is %v, %v", free, err)
	}
}

// TestPinRefuses holds P7, and P1 should it be streamed all the same: its tool
// is pinned, and to what no server has.
func TestPinRefuses(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*grantv1.Tool){
		`definition: invalid: it is of a tool called "refunds"`: func(m *grantv1.Tool) { m.Definition.Fields["name"] = structpb.NewStringValue("refunds") },
		`definition: invalid: it is of a tool called ""`:        func(m *grantv1.Tool) { m.Definition = new(structpb.Struct) },
		"inputSchema": func(m *grantv1.Tool) { delete(m.Definition.Fields, "inputSchema") },
		"definition: ": func(m *grantv1.Tool) {
			m.Definition.Fields["x"] = structpb.NewStringValue(strings.Repeat("x", 1<<16))
		},
	} {
		m := pinned(t)
		change(m)
		if e, err := grant.ParseEntry(m, 1); e != nil || !errors.Is(err, grant.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v\nwant ErrInvalid that says %q", e, err, want)
		}
		if e, err := grant.ParseTool(grant.ProjectTool(m), 1); err != nil || e.Digest() != "sha256:"+strings.Repeat("0", 64) {
			t.Errorf("streamed it is %v, %v", e, err)
		}
	}
	streamed := grant.ProjectTool(pinned(t))
	for want, change := range map[string]func(*grantv1.Tool){
		"digest: ":                     func(m *grantv1.Tool) { m.Digest = strings.ToUpper(m.GetDigest()) },
		"digest: invalid: want":        func(m *grantv1.Tool) { m.Digest = "" },
		"input_schema: ":               func(m *grantv1.Tool) { m.InputSchema = "" },
		"input_schema: invalid: ":      func(m *grantv1.Tool) { m.InputSchema = "[]" },
		"input_schema: invalid: inval": func(m *grantv1.Tool) { m.InputSchema = `{"type": "objekt"}` },
	} {
		m := proto.CloneOf(streamed)
		change(m)
		if e, err := grant.ParseEntry(m, 1); e != nil || !errors.Is(err, grant.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v\nwant ErrInvalid that says %q", e, err, want)
		}
	}
}
