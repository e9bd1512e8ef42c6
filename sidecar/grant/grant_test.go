package grant_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func tool(name string) *grantv1.Target {
	return &grantv1.Target{Target: &grantv1.Target_Tool{Tool: name}}
}

func resource(name string) *grantv1.Target {
	return &grantv1.Target{Target: &grantv1.Target_Resource{Resource: name}}
}

func prompt(name string) *grantv1.Target {
	return &grantv1.Target{Target: &grantv1.Target_Prompt{Prompt: name}}
}

func method(name string) *grantv1.Target {
	return &grantv1.Target{Target: &grantv1.Target_Method{Method: name}}
}

func stored() *grantv1.Grant {
	return &grantv1.Grant{
		Name:        "namespaces/shop/grants/refunds",
		Etag:        "17",
		CreateTime:  timestamppb.New(noon),
		UpdateTime:  timestamppb.New(noon),
		Description: "asked for by Ann",
		Effect:      grantv1.Grant_ALLOW,
		Subjects:    &grantv1.Subjects{Agents: []string{"triage"}},
		Targets:     []*grantv1.Target{tool("tickets/refund"), tool("wiki/*"), tool("*"), resource("*"), prompt("*"), method("*"), resource("wiki/file:///a*"), prompt("wiki/hello"), method("wiki/completion/complete")},
		Condition:   "args.amount <= 100",
		NotBefore:   timestamppb.New(noon),
		ExpireTime:  timestamppb.New(noon.Add(time.Hour)),
	}
}

func TestParseGrant(t *testing.T) {
	t.Parallel()
	g, err := grant.ParseGrant(stored(), 17)
	if err != nil {
		t.Fatal(err)
	}
	if g.Name() != "namespaces/shop/grants/refunds" || g.Revision() != 17 || g.Forbids() || g.Condition() == nil {
		t.Errorf("got %+v", g)
	}
	start, end := grant.Instant(noon), grant.Instant(noon.Add(time.Hour))
	if g.Begun(start-1) || !g.Begun(start) || g.Expired(end-1) || !g.Expired(end) {
		t.Error("the window is another")
	}
	if _, err := grant.ParseGrant(grant.Project(stored()), 17); err != nil {
		t.Errorf("the streamed form: %v", err)
	}
}

// TestParseRefuses holds P7: what a sidecar would refuse is refused where it is
// written, by field.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	unknown := stored()
	unknown.ProtoReflect().SetUnknown([]byte{0xa0, 0x06, 0x01})
	unknownTarget := stored()
	unknownTarget.Targets[1].ProtoReflect().SetUnknown([]byte{0xa0, 0x06, 0x01})
	with := func(change func(*grantv1.Grant)) *grantv1.Grant {
		g := stored()
		change(g)
		return g
	}
	targets := func(ts ...*grantv1.Target) *grantv1.Grant {
		return with(func(g *grantv1.Grant) { g.Targets = ts })
	}
	active := func(a *grantv1.Agent) *grantv1.Agent {
		a.Name, a.State = "namespaces/shop/agents/triage", grantv1.Agent_ACTIVE
		return a
	}
	many := make(map[string]string)
	for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789" {
		many[string(c)] = ""
	}
	server := func(url string) *grantv1.Server {
		return &grantv1.Server{Name: "namespaces/shop/servers/wiki", Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: url}}}
	}
	for _, c := range []struct {
		m    proto.Message
		want string
	}{
		{nil, "no entry"},
		{&grantv1.Namespace{}, "no entry"},
		{(*grantv1.Grant)(nil), "name: "},
		{with(func(g *grantv1.Grant) { g.Name = "refunds" }), "name: invalid"},
		{with(func(g *grantv1.Grant) { g.Name = "namespaces/shop/agents/a" }), "is not one of grants"},
		{with(func(g *grantv1.Grant) { g.Effect = 0 }), "effect: invalid: want ALLOW or FORBID"},
		{with(func(g *grantv1.Grant) { g.Effect = 3 }), "effect: "},
		{unknown, "a field that this version does not know"},
		{unknownTarget, "targets[1]: invalid: it is of a kind"},
		{with(func(g *grantv1.Grant) { g.ExpireTime = nil }), "expire_time: invalid: a grant must expire"},
		{with(func(g *grantv1.Grant) { g.ExpireTime = &timestamppb.Timestamp{Nanos: -1} }), "expire_time: "},
		{with(func(g *grantv1.Grant) { g.NotBefore = &timestamppb.Timestamp{Nanos: -1} }), "not_before: "},
		{with(func(g *grantv1.Grant) { g.NotBefore = g.GetExpireTime() }), "not_before: invalid: the grant would expire"},
		{with(func(g *grantv1.Grant) { g.Condition = "args.amount <" }), "condition: invalid: at 1:"},
		{targets(), "targets: invalid: name at least one"},
		{targets(make([]*grantv1.Target, 101)...), "at most 100"},
		{targets(nil), "targets[0]: invalid: want a tool"},
		{targets(tool("a/b"), &grantv1.Target{}), "targets[1]: invalid: want a tool"},
		{targets(tool("a/b"), tool("a/b")), "targets[1].tool: invalid: the same target"},
		{targets(tool("")), `want "server/name"`},
		{targets(tool("refund")), `want "server/name"`},
		{targets(tool("/refund")), `want "server/name"`},
		{targets(tool("tickets/")), `want "server/name"`},
		{targets(tool("Tickets/refund")), `want "server/name"`},
		{targets(tool("*/refund")), `want "server/name"`},
		{targets(tool("tickets/re*")), "prefixes are for resources"},
		{targets(tool("tickets/a b")), "a tool's name has"},
		{targets(tool("tickets/" + strings.Repeat("x", 129))), "a tool's name has"},
		{targets(resource("**")), `want "server/uri"`},
		{targets(resource("wiki/a*b")), "only stand at the end"},
		{targets(resource("wiki/**")), "only stand at the end"},
		{targets(resource("wiki/a\u202eb")), "cannot be printed"},
		{targets(resource("wiki/" + strings.Repeat("x", 2048))), "at most 2048"},
		{targets(resource("wiki/file:///a/../b")), "targets[0].resource: invalid: servers could read the URI in more than one way: it has a segment"},
		{targets(resource("wiki/file:///a/../*")), "write the path that it leads to"},
		{targets(resource("wiki/file:///a/%2e%2E/*")), "write the path that it leads to"},
		{targets(resource("wiki/file:///a//*")), `write "/" in place of "//"`},
		{targets(resource("wiki/file:///a%2*")), `write "%25"`},
		{targets(prompt("**")), `want "server/name"`},
		{targets(prompt("wiki/a*")), "prefixes are for resources"},
		{targets(prompt("wiki/a\n")), "cannot be printed"},
		{targets(prompt("wiki/" + strings.Repeat("x", 256))), "at most 256"},
		{targets(method("wiki/tools/call")), "as a target of kind tool"},
		{targets(method("wiki/resources/read")), "as a target of kind resource"},
		{&grantv1.Agent{Name: "namespaces/shop/agents/a"}, "state: "},
		{active(&grantv1.Agent{Labels: map[string]string{"-a": ""}}), `labels["-a"]: `},
		{active(&grantv1.Agent{Labels: map[string]string{"a": strings.Repeat("x", 64)}}), "at most 63 bytes"},
		{active(&grantv1.Agent{Labels: many}), "at most 32"},
		{&grantv1.Server{Name: "namespaces/shop/servers/wiki"}, "http.url: invalid: say how"},
		{server("ftp://a/mcp"), "want http or https"},
		{server("/mcp"), "want an absolute URL"},
		{server("https:///mcp"), "want an absolute URL"},
		{server("https:mcp"), "want an absolute URL"},
		{server("https://a b/mcp"), "want an absolute URL"},
		{server("https://u:p@a/mcp"), "credentials"},
		{server("https://a/mcp?x=1"), "query"},
		{server("https://a/mcp#x"), "fragment"},
		{server("https://a/" + strings.Repeat("x", 2048)), "at most 2048"},
		{&grantv1.Tool{Name: "namespaces/shop/servers/wiki/tools/x", Reach: grantv1.Tool_CLOSED}, "effect: "},
		{&grantv1.Tool{Name: "namespaces/shop/servers/wiki/tools/x", Effect: grantv1.Tool_READ}, "reach: "},
		{&grantv1.Tool{Name: "namespaces/shop/servers/wiki/x", Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED}, "name: "},
	} {
		e, err := grant.ParseEntry(c.m, 1)
		if e != nil || !errors.Is(err, grant.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v:\n got %v, %v\nwant ErrInvalid that says %q", c.m, e, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]grant.Name{
		"namespaces/shop":                        {Collection: grant.Namespaces, Namespace: "shop", ID: "shop"},
		"namespaces/shop/agents/a":               {Collection: grant.Agents, Namespace: "shop", ID: "a"},
		"namespaces/shop/servers/wiki":           {Collection: grant.Servers, Namespace: "shop", ID: "wiki"},
		"namespaces/shop/grants/g-1":             {Collection: grant.Grants, Namespace: "shop", ID: "g-1"},
		"namespaces/shop/servers/wiki/tools/a/b": {Collection: grant.Tools, Namespace: "shop", Server: "wiki", ID: "a/b"},
		"namespaces/shop/agents/a/sessions/s":    {Collection: grant.Sessions, Namespace: "shop", Agent: "a", ID: "s"},
		"fleet":                                  {Collection: grant.Fleets},
		"namespaces/shop/fleet":                  {Collection: grant.Fleets, Namespace: "shop"},
		"namespaces/s/servers/w/tools/x/tools/y": {Collection: grant.Tools, Namespace: "s", Server: "w", ID: "x/tools/y"},
	} {
		got, err := grant.ParseName(name)
		if err != nil || got != want || got.String() != name {
			t.Errorf("%s: got %+v (%s), %v", name, got, got, err)
		}
	}
	for _, name := range []string{
		"", "shop", "namespaces/", "namespaces/Shop", "namespaces/-a", "namespaces/a-", "namespaces/" + strings.Repeat("a", 64), "namespaces/shop/",
		"namespaces/shop/agents", "namespaces/shop/agents/", "namespaces/shop/agents/a/b", "namespaces/shop/agents/a_b", "namespaces/shop/tools/x",
		"namespaces/shop/servers/wiki/tools/", "namespaces/shop/servers//tools/x", "namespaces/shop/servers/wiki/tools/a b", "namespaces/shop/agents/a/tools/b",
		"admins/ann", "namespaces/shop/users/ann", "fleet/", "fleet/x", "namespaces/shop/fleet/", "namespaces/shop/fleet/x", "namespaces//fleet",
		"namespaces/shop/sessions/s", "namespaces/shop/agents/a/sessions", "namespaces/shop/agents/a/sessions/", "namespaces/shop/agents//sessions/s",
		"namespaces/shop/agents/a/sessions/s/x", "namespaces/shop/agents/a/sessions/s/sessions/t", "namespaces/shop/servers/a/sessions/s",
		"namespaces/shop/agents/A/sessions/s", "namespaces/shop/agents/a/sessions/S",
	} {
		if n, err := grant.ParseName(name); !errors.Is(err, grant.ErrInvalid) {
			t.Errorf("%q: got %+v, %v", name, n, err)
		}
	}
}

// A stop button says of itself what it stops, and nothing that agents need not
// know.
func TestFleetState(t *testing.T) {
	t.Parallel()
	stored := &grantv1.FleetState{
		Name: "namespaces/shop/fleet", State: grantv1.FleetState_HALTED, Etag: "7", Reason: "fire", Actor: "ann",
		CreateTime: timestamppb.Now(),
	}
	want := &grantv1.FleetState{Name: "namespaces/shop/fleet", State: grantv1.FleetState_HALTED}
	if diff := cmp.Diff(want, grant.ProjectFleetState(stored), protocmp.Transform()); diff != "" {
		t.Errorf("streamed (-want +got):\n%s", diff)
	}
	e, err := grant.ParseEntry(want, 7)
	if err != nil || e.Name() != want.GetName() || e.Revision() != 7 {
		t.Errorf("parsed %v, %v", e, err)
	}
	for _, m := range []*grantv1.FleetState{
		{Name: "namespaces/shop/agents/a", State: grantv1.FleetState_HALTED}, {Name: "fleet"}, {Name: "fleet", State: 7}, nil,
	} {
		if e, err := grant.ParseEntry(m, 1); !errors.Is(err, grant.ErrInvalid) {
			t.Errorf("%v: parsed %v, %v", m, e, err)
		}
	}
	s := grant.Empty().Apply(1, []grant.Entry{e, e}, nil).Apply(2, []grant.Entry{e}, []string{e.Name()})
	if grant.Empty().Halted() || !s.Halted() || s.Apply(3, nil, []string{e.Name()}).Halted() {
		t.Error("a stop button counts for other than once")
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	selector := func(labels ...string) *grantv1.Subjects {
		m := make(map[string]string)
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			m[k] = v
		}
		return &grantv1.Subjects{Selector: &grantv1.LabelSelector{MatchLabels: m}}
	}
	labels := map[string]string{"team": "support", "tier": ""}
	for _, c := range []struct {
		sub    *grantv1.Subjects
		covers bool
		want   string // what is wrong
	}{
		{nil, false, "name at least one agent"},
		{&grantv1.Subjects{}, false, "name at least one agent"},
		{&grantv1.Subjects{Agents: []string{"other", "triage"}}, true, ""},
		{&grantv1.Subjects{Agents: []string{"other"}}, false, ""},
		{&grantv1.Subjects{Agents: []string{"Triage"}}, false, "subjects.agents[0]: "},
		{&grantv1.Subjects{Agents: make([]string, 101)}, false, "at most 100"},
		{selector(), false, "want 1 to 16 labels"},
		{selector("team=support"), true, ""},
		{selector("team=support", "tier="), true, ""},
		{selector("team=support", "region="), false, ""},
		{selector("team=sales"), false, ""},
		{selector("-=x"), false, `match_labels["-"]: `},
		{&grantv1.Subjects{Agents: []string{"other"}, Selector: selector("team=support").GetSelector()}, true, ""},
	} {
		if got := grant.Covers(c.sub, "triage", labels); got != c.covers {
			t.Errorf("%v covers: %t, want %t", c.sub, got, c.covers)
		}
		switch err := grant.ValidateSubjects(c.sub); {
		case c.want == "" && err != nil:
			t.Errorf("%v: %v", c.sub, err)
		case c.want != "" && (!errors.Is(err, grant.ErrInvalid) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%v: got %v, want ErrInvalid that says %q", c.sub, err, c.want)
		}
	}
}

// TestProject holds P5: what is streamed names no other agent and no person.
func TestProject(t *testing.T) {
	t.Parallel()
	agent := &grantv1.Agent{Name: "n", Etag: "1", Description: "d", Owner: "o", Uid: "u", State: 2, Labels: map[string]string{"a": "b"}}
	server := &grantv1.Server{Name: "n", Etag: "1", Description: "d", Upstream: &grantv1.Server_Http_{}}
	tool := &grantv1.Tool{Name: "n", Etag: "1", Description: "d", Effect: 1, Reach: 1}
	limitedGrant := limited(&grantv1.Limits{MaxCalls: 1})
	limitedGrant.Session = &grantv1.SessionRequirement{AnyUser: true}
	session := fullSession()
	session.Etag, session.Description, session.CreateTime = "1", "d", nil
	for _, c := range []struct{ got, full proto.Message }{
		{grant.Project(limitedGrant), limitedGrant},
		{grant.ProjectAgent(agent), agent},
		{grant.ProjectServer(server), server},
		{grant.ProjectTool(tool), tool},
		{grant.ProjectSession(session), session},
	} {
		want := proto.Clone(c.full).ProtoReflect()
		for _, field := range []string{"etag", "create_time", "update_time", "description", "owner", "subjects", "actor"} {
			if f := want.Descriptor().Fields().ByTextName(field); f != nil {
				want.Clear(f)
			}
		}
		if diff := cmp.Diff(want.Interface(), c.got, protocmp.Transform()); diff != "" {
			t.Errorf("-want +streamed:\n%s", diff)
		}
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	g, err := grant.ParseEntry(stored(), 17)
	if err != nil {
		t.Fatal(err)
	}
	a, err := grant.ParseEntry(&grantv1.Agent{Name: "namespaces/shop/agents/triage", State: grantv1.Agent_ACTIVE}, 3)
	if err != nil {
		t.Fatal(err)
	}
	empty := grant.Empty()
	s := empty.Apply(20, []grant.Entry{g, a, g}, []string{g.Name()})
	if empty.Len() != 0 || empty.Revision() != 0 || empty.Agent() != nil {
		t.Error("the empty snapshot changed")
	}
	if s.Len() != 2 || s.Revision() != 20 || s.Agent() != a {
		t.Errorf("got %d entries at %d of %v", s.Len(), s.Revision(), s.Agent())
	}
	if e, ok := s.Lookup(g.Name()); !ok || e != g {
		t.Errorf("got %v, %t", e, ok)
	}
	for e := range s.All() {
		if e != a {
			t.Errorf("%s is first", e.Name())
		}
		break
	}
	if s := s.Apply(21, nil, []string{a.Name()}); s.Agent() != nil || s.Len() != 1 {
		t.Errorf("the agent is gone, and the snapshot is of %v", s.Agent())
	}
}

func TestLogValue(t *testing.T) {
	t.Parallel()
	g, err := grant.ParseGrant(stored(), 17)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).InfoContext(t.Context(), "parsed", slog.Any("grant", g))
	if got := out.String(); !strings.Contains(got, "grant.name=namespaces/shop/grants/refunds grant.revision=17") || strings.Contains(got, "amount") {
		t.Errorf("logged %s", got)
	}
}

// FuzzParseEntry: no message makes the parser panic, and what it accepts it
// accepts again as streamed.
func FuzzParseEntry(f *testing.F) {
	seed, err := proto.Marshal(stored())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(0), seed)
	for kind, m := range map[uint8]proto.Message{2: launched(), 3: pinned(f), 5: fullSession()} {
		if seed, err = proto.Marshal(m); err != nil {
			f.Fatal(err)
		}
		f.Add(kind, seed)
	}
	f.Fuzz(func(t *testing.T, kind uint8, wire []byte) {
		m := []proto.Message{&grantv1.Grant{}, &grantv1.Agent{}, &grantv1.Server{}, &grantv1.Tool{}, &grantv1.FleetState{}, &grantv1.Session{}}[kind%6]
		if proto.Unmarshal(wire, m) != nil {
			return
		}
		e, err := grant.ParseEntry(m, 1)
		if err != nil {
			if !errors.Is(err, grant.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if _, err := grant.ParseEntry(projected(m), 1); err != nil {
			t.Fatalf("streamed: %v", err)
		}
		if s := grant.Empty().Apply(1, []grant.Entry{e}, nil).Apply(2, nil, []string{e.Name()}); s.Len() != 0 {
			t.Fatal("removed, and still held")
		}
	})
}
