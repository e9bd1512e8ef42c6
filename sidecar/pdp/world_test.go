package pdp_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// A world is what an agent holds, as messages and nothing else: the oracle
// reads them from the beginning for every call, and shares no code with what
// it is there to check.
type world struct {
	messages []proto.Message
}

// A question is a call, with its arguments as Go has them.
type question struct {
	call pdp.Call
	args map[string]any
	at   time.Time
	age  time.Duration
	// longest is the age at which nothing may be acted on; 0 if there is none.
	longest time.Duration
	// used says what limits answer, by the name of the grant or the session;
	// everything else is not used up.
	used used
}

// used is a pdp.Usage.
type used map[string]pdp.Reason

func (u used) Grant(g *grant.Grant) pdp.Reason     { return u.of(g.Name()) }
func (u used) Session(s *grant.Session) pdp.Reason { return u.of(s.Name()) }

func (u used) of(name string) pdp.Reason {
	if r, ok := u[name]; ok {
		return r
	}
	return pdp.Granted
}

// asked is the moment of the question.
func (q question) asked() pdp.At {
	at := pdp.At{Now: q.at, Age: q.age, Bound: bound, Longest: q.longest}
	if q.used != nil {
		at.Usage = q.used
	}
	return at
}

// bound is that of grants which name none, and bounds are those that grants name.
const bound = 10 * time.Second

var (
	bounds = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}
	caps   = []time.Duration{0, 0, bound, 30 * time.Second, time.Minute}
	ages   = []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 1, time.Second - 1, time.Second, 5 * time.Second, bound - 1, bound, 30*time.Second - 1, 30 * time.Second}
)

var morning = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

// A form is a condition in CEL and in Go. The Go function says whether the
// condition holds and whether it could be evaluated.
type form struct {
	cel  string
	eval func(q question, w world) (holds, ok bool)
}

var forms = []form{
	{"", func(question, world) (bool, bool) { return true, true }},
	{"args.n <= 5", func(q question, _ world) (bool, bool) {
		n, ok := q.args["n"].(int)
		return n <= 5, ok
	}},
	{"args.n > 2 && args.s.startsWith('a/')", func(q question, _ world) (bool, bool) {
		n, isInt := q.args["n"].(int)
		s, isText := q.args["s"].(string)
		if isInt && n <= 2 || isText && !strings.HasPrefix(s, "a/") {
			return false, true
		}
		return true, isInt && isText
	}},
	{"args.s in ['a/x', 'b']", func(q question, _ world) (bool, bool) {
		s, ok := q.args["s"]
		return s == "a/x" || s == "b", ok
	}},
	{"has(args.s) || args.n == 7", func(q question, _ world) (bool, bool) {
		_, hasS := q.args["s"]
		n, hasN := q.args["n"]
		return hasS || n == 7, hasS || hasN
	}},
	{"agent.labels.team == 'red'", func(_ question, w world) (bool, bool) {
		for _, m := range w.messages {
			if a, ok := m.(*grantv1.Agent); ok {
				team, ok := a.GetLabels()["team"]
				return team == "red", ok
			}
		}
		return false, false
	}},
	{"size(args) + 1 > 1", func(q question, _ world) (bool, bool) { return len(q.args) > 0, true }},
	{"now < timestamp('2026-03-02T10:30:00Z')", func(q question, _ world) (bool, bool) {
		return q.at.Before(morning.Add(30 * time.Minute)), true
	}},
	{"session.purpose == 'refunds'", func(q question, w world) (bool, bool) {
		s := w.session(q.call.Session)
		return s.GetPurpose() == "refunds", s != nil
	}},
	{"session.origin != 'agent' || user.id == 'ann'", func(q question, w world) (bool, bool) {
		s := w.session(q.call.Session)
		return s.GetOrigin() == grantv1.Session_ADMIN, s.GetOrigin() == grantv1.Session_ADMIN
	}},
	{"has(user.id) && user.id != 'ann'", func(q question, w world) (bool, bool) {
		user := w.session(q.call.Session).GetUser()
		return user != "" && user != "ann", true
	}},
}

var (
	servers = []string{"s", "t", "u"}
	tools   = []string{"x", "y", "x/y"}
	uris    = []string{"f:/", "f:/a", "f:/a/b", "g:/"}
	unclear = []string{"f:/a/../b", "f:/a//b", "f:/%61"}

	me, notMe = "sha256:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("b", 64)
	sessions  = []string{"one", "two", "three"}
	purposes  = []string{"refunds", "returns", "reports"}
	users     = []string{"ann", "bob"}
	outcomes  = []pdp.Reason{pdp.Granted, pdp.LimitReached, pdp.RateLimited, pdp.RateLimited, pdp.Unavailable, pdp.Stale}

	names = map[pdp.Kind][]string{pdp.Tool: tools, pdp.Resource: slices.Concat(uris, unclear), pdp.Prompt: tools, pdp.Method: tools}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// maxGrants is more than a world has.
const maxGrants = 24

func someWorld(r *rand.Rand) world {
	var w world
	if r.IntN(40) > 0 {
		a := &grantv1.Agent{Name: "namespaces/shop/agents/triage", State: grantv1.Agent_ACTIVE, Uid: "triage-2"}
		if r.IntN(40) == 0 {
			a.State = pick(r, []grantv1.Agent_State{grantv1.Agent_SUSPENDED, grantv1.Agent_RETIRED})
		}
		if r.IntN(3) > 0 {
			a.Labels = map[string]string{"team": pick(r, []string{"red", "blue"})}
		}
		w.messages = append(w.messages, a)
	}
	for _, s := range servers {
		if r.IntN(8) > 0 {
			w.messages = append(w.messages, &grantv1.Server{
				Name: grant.ServerName("shop", s), Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "https://a.example/mcp"}},
			})
		}
		for _, name := range tools {
			if r.IntN(8) > 0 {
				w.messages = append(w.messages, someTool(r, s, name))
			}
		}
	}
	for _, name := range []string{"fleet", "namespaces/shop/fleet"} {
		if r.IntN(60) == 0 {
			w.messages = append(w.messages, &grantv1.FleetState{Name: name, State: grantv1.FleetState_HALTED})
		}
	}
	for _, id := range sessions {
		if r.IntN(5) > 0 {
			w.messages = append(w.messages, someSession(r, id))
		}
	}
	for i := range r.IntN(maxGrants) {
		w.messages = append(w.messages, someGrant(r, fmt.Sprintf("g%d", i)))
	}
	r.Shuffle(len(w.messages), func(i, j int) { w.messages[i], w.messages[j] = w.messages[j], w.messages[i] })
	return w
}

// pinned is the input schema of every pinned tool.
var pinned = map[string]any{
	"type": "object", "properties": map[string]any{"n": map[string]any{"type": "integer"}, "s": map[string]any{"type": "string"}},
}

// someTool is as it is stored, or as it is streamed.
func someTool(r *rand.Rand, server, name string) *grantv1.Tool {
	t := &grantv1.Tool{Name: grant.ToolName("shop", server, name), Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED}
	if r.IntN(2) == 0 {
		return t
	}
	definition, err := structpb.NewStruct(map[string]any{"name": name, "inputSchema": pinned})
	if err != nil {
		return nil
	}
	if t.Definition = definition; r.IntN(2) > 0 {
		return grant.ProjectTool(t)
	}
	return t
}

// someSession is one of triage's, or one that only looks like it.
func someSession(r *rand.Rand, id string) *grantv1.Session {
	s := &grantv1.Session{
		Name:       grant.SessionName("shop", "triage", id),
		AgentUid:   "triage-2",
		Origin:     grantv1.Session_ADMIN,
		Purpose:    pick(r, append(purposes, "")),
		User:       pick(r, append(users, "")),
		ExpireTime: timestamppb.New(morning.Add(time.Duration(r.IntN(4)+2) * 15 * time.Minute)),
		Claimant:   me,
	}
	if r.IntN(2) == 0 {
		s.Origin, s.User = grantv1.Session_AGENT, ""
	}
	if r.IntN(6) == 0 {
		s.Claimant = pick(r, []string{notMe, ""})
	}
	if r.IntN(3) == 0 {
		s.Limits = &grantv1.Limits{MaxCalls: 5}
	}
	switch r.IntN(15) {
	case 0:
		s.Name = grant.SessionName("shop", "another", id)
	case 1:
		s.AgentUid = "triage-1"
	}
	return s
}

// session returns triage's session of this id; nil if there is none.
func (w world) session(id string) *grantv1.Session {
	for _, m := range w.messages {
		if s, ok := m.(*grantv1.Session); ok && id != "" && s.GetName() == "namespaces/shop/agents/triage/sessions/"+id && s.GetAgentUid() == "triage-2" {
			return s
		}
	}
	return nil
}

func someGrant(r *rand.Rand, id string) *grantv1.Grant {
	g := &grantv1.Grant{
		Name:       grant.GrantName("shop", id),
		Effect:     grantv1.Grant_ALLOW,
		Condition:  pick(r, forms).cel,
		ExpireTime: timestamppb.New(morning.Add(time.Duration(r.IntN(8)-1) * 15 * time.Minute)),
	}
	if r.IntN(6) == 0 {
		g.Effect = grantv1.Grant_FORBID
	}
	if r.IntN(3) == 0 {
		g.NotBefore = timestamppb.New(g.GetExpireTime().AsTime().Add(-time.Duration(1+r.IntN(3)) * 15 * time.Minute))
	}
	if g.GetEffect() == grantv1.Grant_ALLOW && r.IntN(3) == 0 {
		g.FreshnessBound = durationpb.New(pick(r, bounds))
	}
	if r.IntN(3) == 0 {
		g.Condition = ""
	}
	if g.GetEffect() == grantv1.Grant_ALLOW && r.IntN(2) == 0 {
		g.Limits, g.Uid = &grantv1.Limits{Rate: &grantv1.Rate{Calls: 3, Per: durationpb.New(time.Minute)}}, id+"-1"
	}
	if g.GetEffect() == grantv1.Grant_ALLOW && r.IntN(4) == 0 {
		g.Session = someRequirement(r)
	}
	for len(g.Targets) == 0 || r.IntN(3) == 0 {
		t := someTarget(r)
		if !slices.ContainsFunc(g.Targets, func(u *grantv1.Target) bool { return proto.Equal(t, u) }) {
			g.Targets = append(g.Targets, t)
		}
	}
	return g
}

func someRequirement(r *rand.Rand) *grantv1.SessionRequirement {
	m := &grantv1.SessionRequirement{}
	if r.IntN(2) == 0 {
		m.Purposes = purposes[:1+r.IntN(2)]
	}
	switch r.IntN(6) {
	case 0:
		m.Users = users[:1]
	case 1:
		m.AnyUser = true
	case 2:
		m.SelfOpened = true
	}
	return m
}

func someTarget(r *rand.Rand) *grantv1.Target {
	server := pick(r, servers) + "/"
	named := server + pick(r, append(tools, "*"))
	if r.IntN(5) == 0 {
		return pick(r, []*grantv1.Target{
			{Target: &grantv1.Target_Tool{Tool: "*"}},
			{Target: &grantv1.Target_Resource{Resource: "*"}},
			{Target: &grantv1.Target_Prompt{Prompt: "*"}},
			{Target: &grantv1.Target_Method{Method: "*"}},
		})
	}
	switch r.IntN(9) {
	case 1:
		return &grantv1.Target{Target: &grantv1.Target_Prompt{Prompt: named}}
	case 2:
		return &grantv1.Target{Target: &grantv1.Target_Method{Method: named}}
	case 3, 4:
		return &grantv1.Target{Target: &grantv1.Target_Resource{Resource: server + pick(r, append(uris, "*", "f:*", "f:/a*"))}}
	default:
		return &grantv1.Target{Target: &grantv1.Target_Tool{Tool: named}}
	}
}

func someQuestion(tb testing.TB, r *rand.Rand) question {
	tb.Helper()
	kind := pick(r, []pdp.Kind{pdp.Tool, pdp.Tool, pdp.Tool, pdp.Resource, pdp.Prompt, pdp.Method})
	q := question{
		call: pdp.Call{Kind: kind, Server: pick(r, servers), Name: pick(r, names[kind])},
		args: make(map[string]any),
		at:   morning.Add(time.Duration(r.IntN(5)-1) * 15 * time.Minute),
		age:  pick(r, ages), longest: pick(r, caps),
	}
	q.call.Session = pick(r, slices.Concat(sessions, []string{"", "", "", "", "", ""}))
	if r.IntN(4) > 0 {
		q.used = used{}
		for i := range maxGrants {
			q.used[grant.GrantName("shop", fmt.Sprintf("g%d", i))] = pick(r, outcomes)
		}
		for _, id := range sessions {
			q.used[grant.SessionName("shop", "triage", id)] = pick(r, outcomes)
		}
	}
	if r.IntN(4) > 0 {
		q.args["n"] = pick(r, []any{0, 3, 5, 6, 7, "5"})
	}
	if r.IntN(4) > 0 {
		q.args["s"] = pick(r, []any{"a/x", "a/", "b", "", 4})
	}
	text, err := json.Marshal(q.args)
	if err != nil {
		tb.Fatal(err)
	}
	v, err := strictjson.Parse(text, strictjson.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	q.call.Args, _ = v.(*strictjson.Object)
	return q
}

// snapshot parses a world. The revision of an entry is its place in it.
func (w world) snapshot(tb testing.TB) *grant.Snapshot {
	tb.Helper()
	entries := make([]grant.Entry, len(w.messages))
	for i, m := range w.messages {
		var err error
		if entries[i], err = grant.ParseEntry(m, int64(i)+1); err != nil {
			tb.Fatal(err)
		}
	}
	return grant.Empty().As(me).Apply(int64(len(w.messages)), entries, nil)
}
