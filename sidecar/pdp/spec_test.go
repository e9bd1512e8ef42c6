package pdp_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// TestSpecifications runs testdata/*.txtar: what decisions are, as scripts.
//
// A "held" section changes what agent triage of namespace shop holds:
//
//	agent active|suspended|retired [label=value …]
//	server tickets
//	tool tickets/refund read|write|destructive [open_world] [pinned INPUT-SCHEMA]
//	session run admin|agent [user=ann] [purpose=refunds] [claimant=me|other] [until=TIME] [limited]
//	allow|forbid name: tool tickets/*, prompt tickets/hello [limited] [in SESSION] [bound DURATION] [from TIME] [until TIME] [if CONDITION]
//	without grants/name
//	halt fleet|namespaces/shop/fleet
//	without-entry fleet
//
// where SESSION is what the grant asks of one: any, or some of user=ann,
// purpose=refunds, any_user and self_opened, with commas between.
//
// An "asked" section, at 10:00 on 2 March 2026 unless the section's name says
// another time ("asked at 18:00") or how long ago the sidecar asked what was
// answered last, under a bound of 10 s ("asked after 3s"), and what bound no
// grant may exceed by that answer ("asked after 3s of 1m"), in a session if it
// says so ("asked in run") and with limits used up ("asked used
// small-refunds=rate_limited,run=limit_reached"), says what is called and what
// must come of it:
//
//	tool tickets/refund {"amount": 5} => allow granted small-refunds
//	see tool tickets/refund => listed
//	admit tickets => true granted
func TestSpecifications(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no specifications: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			script, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runSpecification(t, script)
		})
	}
}

func runSpecification(t *testing.T, script *txtar.Archive) {
	t.Helper()
	held := grant.Empty().As(me)
	for _, section := range script.Files {
		at, session := asking(t, section.Name)
		for line := range strings.Lines(string(section.Data)) {
			line = strings.TrimSpace(line)
			switch {
			case line == "" || strings.HasPrefix(line, "#"):
			case section.Name == "held":
				held = holdLine(t, held, line)
			case strings.HasPrefix(section.Name, "asked"):
				question, want, ok := strings.Cut(line, " => ")
				if !ok {
					t.Fatalf("%s: want an expectation", line)
				}
				if got := answer(t, held, session, strings.TrimSpace(question), at); got != strings.TrimSpace(want) {
					t.Errorf("%s\n got %s\nwant %s", question, got, want)
				}
			default:
				t.Fatalf("section %q is neither held nor asked", section.Name)
			}
		}
	}
}

// asking returns the moment and the session that a section's name says.
func asking(t *testing.T, section string) (at pdp.At, session string) {
	t.Helper()
	at = pdp.At{Now: noon(t, "10:00"), Bound: bound}
	_, rest, _ := strings.Cut(section, " ")
	words := strings.Fields(rest)
	for len(words) > 1 {
		switch word := words[1]; words[0] {
		case "at":
			at.Now = noon(t, word)
		case "after":
			at.Age = duration(t, word)
		case "of":
			at.Longest = duration(t, word)
		case "in":
			session = word
		case "used":
			at.Usage = usedUp(t, word)
		default:
			t.Fatalf("section %q: unknown word %q", section, words[0])
		}
		words = words[2:]
	}
	return at, session
}

// usedUp returns what says of a list of name=reason.
func usedUp(t *testing.T, list string) used {
	t.Helper()
	u := make(used)
	for item := range strings.SplitSeq(list, ",") {
		name, word, _ := strings.Cut(item, "=")
		for r := range pdp.Reasons {
			if r.String() == word {
				u[grant.GrantName("shop", name)], u[grant.SessionName("shop", "triage", name)] = r, r
			}
		}
	}
	return u
}

// noon returns the time of day on 2 March 2026, or an instant as it is.
func noon(t *testing.T, clock string) time.Time {
	t.Helper()
	if at, err := time.Parse("2006-01-02T15:04", "2026-03-02T"+clock); err == nil {
		return at
	}
	at, err := time.Parse(time.RFC3339Nano, clock)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func holdLine(t *testing.T, s *grant.Snapshot, line string) *grant.Snapshot {
	t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	var m proto.Message
	switch word {
	case "agent":
		fields := strings.Fields(rest)
		a := &grantv1.Agent{
			Name:   "namespaces/shop/agents/triage",
			State:  grantv1.Agent_State(grantv1.Agent_State_value[strings.ToUpper(fields[0])]),
			Labels: make(map[string]string),
		}
		for _, label := range fields[1:] {
			k, v, _ := strings.Cut(label, "=")
			a.Labels[k] = v
		}
		m = a
	case "server":
		m = &grantv1.Server{
			Name:     grant.ServerName("shop", rest),
			Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "https://mcp.example.com/" + rest}},
		}
	case "tool":
		rest, schema, pinned := strings.Cut(rest, " pinned ")
		fields := strings.Fields(rest)
		server, name, _ := grant.SplitTarget(fields[0])
		tool := &grantv1.Tool{
			Name:   grant.ToolName("shop", server, name),
			Effect: grantv1.Tool_Effect(grantv1.Tool_Effect_value[strings.ToUpper(fields[1])]),
			Reach:  grantv1.Tool_CLOSED,
		}
		if len(fields) > 2 {
			tool.Reach = grantv1.Tool_OPEN_WORLD
		}
		if pinned {
			tool.Definition = definition(t, name, schema)
			tool = grant.ProjectTool(tool)
		}
		m = tool
	case "session":
		m = sessionLine(t, rest)
	case "allow", "forbid":
		m = grantLine(t, grantv1.Grant_Effect(grantv1.Grant_Effect_value[strings.ToUpper(word)]), rest)
	case "halt":
		m = &grantv1.FleetState{Name: rest, State: grantv1.FleetState_HALTED}
	case "without-entry":
		return s.Apply(s.Revision()+1, nil, []string{rest})
	case "without":
		return s.Apply(s.Revision()+1, nil, []string{"namespaces/shop/" + rest})
	default:
		t.Fatalf("%s: unknown word", line)
	}
	e, err := grant.ParseEntry(m, s.Revision()+1)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return s.Apply(s.Revision()+1, []grant.Entry{e}, nil)
}

func grantLine(t *testing.T, effect grantv1.Grant_Effect, line string) *grantv1.Grant {
	t.Helper()
	name, rest, _ := strings.Cut(line, ": ")
	m := &grantv1.Grant{Name: grant.GrantName("shop", name), Effect: effect, ExpireTime: timestamppb.New(noon(t, "20:00"))}
	rest, m.Condition, _ = strings.Cut(rest, " if ")
	rest, until, ok := strings.Cut(rest, " until ")
	if ok {
		m.ExpireTime = timestamppb.New(noon(t, until))
	}
	rest, from, ok := strings.Cut(rest, " from ")
	if ok {
		m.NotBefore = timestamppb.New(noon(t, from))
	}
	rest, own, ok := strings.Cut(rest, " bound ")
	if ok {
		m.FreshnessBound = durationpb.New(duration(t, own))
	}
	rest, in, ok := strings.Cut(rest, " in ")
	if ok {
		m.Session = requirementOf(in)
	}
	rest, ok = strings.CutSuffix(rest, " limited")
	if ok {
		m.Limits, m.Uid = &grantv1.Limits{MaxCalls: 3}, name+"-1"
	}
	for target := range strings.SplitSeq(rest, ", ") {
		kind, name, _ := strings.Cut(target, " ")
		m.Targets = append(m.Targets, targetOf(t, kind, name))
	}
	return m
}

func definition(t *testing.T, name, schema string) *structpb.Struct {
	t.Helper()
	d := new(structpb.Struct)
	if err := protojson.Unmarshal(fmt.Appendf(nil, `{"name": %q, "inputSchema": %s}`, name, schema), d); err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	return d
}

func sessionLine(t *testing.T, line string) *grantv1.Session {
	t.Helper()
	fields := strings.Fields(line)
	m := &grantv1.Session{
		Name:       grant.SessionName("shop", "triage", fields[0]),
		Origin:     grantv1.Session_Origin(grantv1.Session_Origin_value[strings.ToUpper(fields[1])]),
		ExpireTime: timestamppb.New(noon(t, "20:00")),
	}
	for _, field := range fields[2:] {
		word, value, _ := strings.Cut(field, "=")
		switch word {
		case "user":
			m.User = value
		case "purpose":
			m.Purpose = value
		case "claimant":
			m.Claimant = map[string]string{"me": me, "other": notMe}[value]
		case "until":
			m.ExpireTime = timestamppb.New(noon(t, value))
		case "limited":
			m.Limits = &grantv1.Limits{MaxCalls: 3}
		default:
			t.Fatalf("%s: unknown word %q", line, word)
		}
	}
	return m
}

func requirementOf(text string) *grantv1.SessionRequirement {
	m := &grantv1.SessionRequirement{}
	for item := range strings.SplitSeq(text, ",") {
		switch word, value, _ := strings.Cut(item, "="); word {
		case "user":
			m.Users = append(m.Users, value)
		case "purpose":
			m.Purposes = append(m.Purposes, value)
		case "any_user":
			m.AnyUser = true
		case "self_opened":
			m.SelfOpened = true
		}
	}
	return m
}

func targetOf(tb testing.TB, kind, name string) *grantv1.Target {
	tb.Helper()
	switch kind {
	case "tool":
		return &grantv1.Target{Target: &grantv1.Target_Tool{Tool: name}}
	case "resource":
		return &grantv1.Target{Target: &grantv1.Target_Resource{Resource: name}}
	case "prompt":
		return &grantv1.Target{Target: &grantv1.Target_Prompt{Prompt: name}}
	case "method":
		return &grantv1.Target{Target: &grantv1.Target_Method{Method: name}}
	}
	tb.Fatalf("%s: unknown kind of target", kind)
	return nil
}

var kindOf = map[string]pdp.Kind{"tool": pdp.Tool, "resource": pdp.Resource, "prompt": pdp.Prompt, "method": pdp.Method}

// answer returns what comes of "tool tickets/refund {…}", "see tool …" or "admit
// tickets".
func answer(t *testing.T, held *grant.Snapshot, session, question string, at pdp.At) string {
	t.Helper()
	if server, ok := strings.CutPrefix(question, "admit "); ok {
		d := pdp.Admit(held, pdp.Call{Server: server, Session: session}, at)
		return fmt.Sprintf("%t %s", d.Allow, d.Reason)
	}
	question, see := strings.CutPrefix(question, "see ")
	kind, rest, _ := strings.Cut(question, " ")
	name, args, _ := strings.Cut(rest, " ")
	c := pdp.Call{Kind: kindOf[kind], Session: session}
	c.Server, c.Name, _ = grant.SplitTarget(name)
	if see {
		if pdp.Visible(held, c, at) {
			return "listed"
		}
		return "hidden"
	}
	if args != "" {
		v, err := strictjson.Parse([]byte(args), strictjson.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", question, err)
		}
		c.Args, _ = v.(*strictjson.Object)
	}
	d := pdp.Decide(held, c, at)
	if explained, _ := pdp.Explain(held, c, at); explained != d {
		t.Errorf("%s: Explain says %v, and Decide %v", question, explained, d)
	}
	verdict := "deny"
	if d.Allow {
		verdict = "allow"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", verdict, d.Reason, strings.TrimPrefix(d.Grant, "namespaces/shop/grants/")))
}
