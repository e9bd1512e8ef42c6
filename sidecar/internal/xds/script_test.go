package xds

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into testdata: commit it only if you understand the difference")

const me = "namespaces/default/agents/me"

// TestScripts runs testdata/*.txt. A script is stanzas of responses and, after
// ----, what comes of them. A line is a nonce, a type, and resources: read@4 is a
// grant that allows, at revision 4; !stop@4 one that forbids; me@1 the agent and
// -me@1 the agent suspended; halt@1 the stop button of everything, here:halt@1
// that of the agent's namespace and there:halt@1 that of another; bad@4 a grant that cannot be parsed; there:read@4 a
// grant of another namespace; -read the removal of a grant, and -halt that of the
// stop button; of the type sessions s@4 one of this agent, spy:s@4 another's and
// bad@4 one that cannot be parsed. "open" is a new
// stream, and says what it resumes with; "open 10" one that may resume with 10
// bytes at the most.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, newHolding(me), string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(text); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// run returns the script with what really comes of it.
func run(t *testing.T, h *holding, text string) string {
	t.Helper()
	var got, out strings.Builder
	expecting := false
	for line := range strings.Lines(text) {
		switch {
		case expecting && line != "\n":
			continue
		case expecting:
			expecting = false
			got.WriteString(line)
		case line == "----\n":
			expecting = true
			got.WriteString(line + out.String())
			out.Reset()
		default:
			got.WriteString(line)
			fields := strings.Fields(line)
			switch {
			case len(fields) == 0 || fields[0] == "#":
			case fields[0] == "open":
				limit := maxResume
				if len(fields) > 1 {
					limit, _ = strconv.Atoi(fields[1])
				}
				all := h.restart(0, limit)
				out.WriteString("resume")
				for _, t := range types {
					for _, name := range slices.Sorted(maps.Keys(all[t.url])) {
						fmt.Fprintf(&out, " %s@%s", short(name), all[t.url][name])
					}
				}
				out.WriteString("\n")
			default:
				respond(t, h, &out, fields)
			}
		}
	}
	return got.String()
}

// respond has h receive a response and writes what comes of it.
func respond(t *testing.T, h *holding, out *strings.Builder, fields []string) {
	t.Helper()
	o, err := h.receive(response(t, fields))
	if err != nil {
		fmt.Fprintf(out, "error: %v\n", err)
		return
	}
	if o.lapse {
		out.WriteString("lapse\n")
	}
	if o.publish != nil {
		fmt.Fprintf(out, "hold %d:", o.publish.Revision())
		for e := range o.publish.All() {
			mark := ""
			if g, ok := e.(*grant.Grant); ok && g.Forbids() {
				mark = "!"
			}
			if a, ok := e.(*grant.Agent); ok && !a.Active() {
				mark = "-"
			}
			fmt.Fprintf(out, " %s%s@%d", mark, short(e.Name()), e.Revision())
		}
		out.WriteString("\n")
	}
	for _, a := range o.answers {
		if len(a.refused) == 0 {
			fmt.Fprintf(out, "ack %s\n", a.nonce)
		}
		for _, name := range slices.Sorted(maps.Keys(a.refused)) {
			fmt.Fprintf(out, "nack %s %s: %s\n", a.nonce, short(name), a.refused[name])
		}
	}
	if o.complete {
		out.WriteString("complete\n")
	}
}

func short(name string) string { return name[strings.LastIndex(name, "/")+1:] }

// response makes a response from a nonce, a type, and resources.
func response(t *testing.T, fields []string) *discoveryv3.DeltaDiscoveryResponse {
	t.Helper()
	m := &discoveryv3.DeltaDiscoveryResponse{Nonce: fields[0], TypeUrl: types[3].url}
	if i := strings.Index(fields[0], "."); i > 1 {
		m.SystemVersionInfo = fields[0][1:i]
	}
	switch fields[1] {
	case "agents":
		m.TypeUrl = types[0].url
	case "fleet":
		m.TypeUrl = types[4].url
	case "sessions":
		m.TypeUrl = types[5].url
	}
	for _, word := range fields[2:] {
		name, version, put := strings.Cut(word, "@")
		if !put && word == "-halt" {
			m.RemovedResources = append(m.RemovedResources, grant.FleetName(""))
			continue
		}
		if !put && fields[1] == "sessions" {
			m.RemovedResources = append(m.RemovedResources, sessionOf(word[1:]).GetName())
			continue
		}
		if !put {
			m.RemovedResources = append(m.RemovedResources, grant.GrantName("default", word[1:]))
			continue
		}
		r := resource(name)
		if fields[1] == "sessions" {
			r = sessionOf(name)
		}
		body, err := anypb.New(r)
		if err != nil {
			t.Fatal(err)
		}
		m.Resources = append(m.Resources, &discoveryv3.Resource{
			Name: r.(interface{ GetName() string }).GetName(), Version: version, Resource: body,
		})
	}
	return m
}

// sessionOf makes the session s of an agent, "me" or before a colon; "bad" has no
// end.
func sessionOf(word string) *grantv1.Session {
	agent, id, ok := strings.Cut(word, ":")
	if !ok {
		agent, id = "me", word
	}
	s := &grantv1.Session{
		Name: grant.SessionName("default", agent, id), AgentUid: "1", Origin: grantv1.Session_ADMIN,
		ExpireTime: timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	if id == "bad" {
		s.ExpireTime = nil
	}
	return s
}

func resource(word string) proto.Message {
	if id, ok := strings.CutPrefix(word, "-"); ok {
		return &grantv1.Agent{Name: grant.AgentName("default", id), State: grantv1.Agent_SUSPENDED, Uid: "1"}
	}
	if word == "me" || word == "spy" {
		return &grantv1.Agent{Name: grant.AgentName("default", word), State: grantv1.Agent_ACTIVE, Uid: "1"}
	}
	switch word {
	case "halt":
		return &grantv1.FleetState{Name: grant.FleetName(""), State: grantv1.FleetState_HALTED}
	case "here:halt":
		return &grantv1.FleetState{Name: grant.FleetName("default"), State: grantv1.FleetState_HALTED}
	case "there:halt":
		return &grantv1.FleetState{Name: grant.FleetName("there"), State: grantv1.FleetState_HALTED}
	}
	namespace, id, ok := strings.Cut(word, ":")
	if !ok {
		namespace, id = "default", word
	}
	id, own, _ := strings.Cut(id, "~")
	id, forbids := strings.CutPrefix(id, "!")
	g := &grantv1.Grant{
		Name: grant.GrantName(namespace, id), Effect: grantv1.Grant_ALLOW,
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "crm/read"}}},
		ExpireTime: timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	if forbids {
		g.Effect = grantv1.Grant_FORBID
	}
	if d, err := time.ParseDuration(own); err == nil {
		g.FreshnessBound = durationpb.New(d)
	}
	if id == "bad" {
		g.Targets = nil
	}
	return g
}

// FuzzNonce: a nonce reads one way only.
func FuzzNonce(f *testing.F) {
	for _, s := range []string{"n1.1.1", "u7.1.1", "n12.3.4", "n0.1.1", "n1.2.1", "n1.1", "x1.1.1", "n01.1.1", "n-1.1.1", "u9223372036854775808.1.1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseNonce(s)
		if err == nil && (n.String() != s || n.revision < 1 || n.chunk < 1 || n.chunk > n.chunks) {
			t.Errorf("%q parsed as %+v", s, n)
		}
	})
}

// FuzzResponse: nothing that a control plane sends brings the receiver down, and
// what it takes for its own is its own.
func FuzzResponse(f *testing.F) {
	for _, m := range []*discoveryv3.DeltaDiscoveryResponse{
		{Nonce: "n1.1.1", SystemVersionInfo: "1", TypeUrl: types[3].url},
		{Nonce: "u2.1.1", SystemVersionInfo: "2", TypeUrl: types[0].url, RemovedResources: []string{me}},
		{Nonce: "n3.1.1", SystemVersionInfo: "3", TypeUrl: types[3].url, Resources: []*discoveryv3.Resource{
			{Name: "x", Version: strconv.Itoa(3), Resource: &anypb.Any{TypeUrl: types[3].url, Value: []byte{1, 2}}},
		}},
	} {
		wire, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var m discoveryv3.DeltaDiscoveryResponse
		if proto.Unmarshal(wire, &m) != nil {
			return
		}
		h := newHolding(me)
		if _, err := h.receive(&m); err != nil {
			return
		}
		for e := range h.snapshot.All() {
			if !strings.HasPrefix(e.Name(), "namespaces/default/") {
				t.Errorf("took %s for its own", e.Name())
			}
		}
	})
}
