package pdp_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
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
}

// asked is the moment of the question.
func (q question) asked() pdp.At {
	return pdp.At{Now: q.at, Age: q.age, Bound: bound, Longest: q.longest}
}

// bound is that of grants which name none, and bounds are those that grants name.
const bound = 10 * time.Second

var (
	bounds = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}
	caps   = []time.Duration{0, 0, bound, 30 * time.Second, time.Minute}
	ages   = []time.Duration{0, 0, 0, 1, time.Second - 1, time.Second, 5 * time.Second, bound - 1, bound, 30*time.Second - 1, 30 * time.Second}
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
}

var (
	servers = []string{"s", "t", "u"}
	tools   = []string{"x", "y", "x/y"}
	uris    = []string{"f:/", "f:/a", "f:/a/b", "g:/"}
	unclear = []string{"f:/a/../b", "f:/a//b", "f:/%61"}
	names   = map[pdp.Kind][]string{pdp.Tool: tools, pdp.Resource: slices.Concat(uris, unclear), pdp.Prompt: tools, pdp.Method: tools}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func someWorld(r *rand.Rand) world {
	var w world
	if r.IntN(20) > 0 {
		a := &grantv1.Agent{Name: "namespaces/shop/agents/triage", State: grantv1.Agent_ACTIVE}
		if r.IntN(20) == 0 {
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
				w.messages = append(w.messages, &grantv1.Tool{Name: grant.ToolName("shop", s, name), Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED})
			}
		}
	}
	for _, name := range []string{"fleet", "namespaces/shop/fleet"} {
		if r.IntN(30) == 0 {
			w.messages = append(w.messages, &grantv1.FleetState{Name: name, State: grantv1.FleetState_HALTED})
		}
	}
	for i := range r.IntN(12) {
		w.messages = append(w.messages, someGrant(r, fmt.Sprintf("g%d", i)))
	}
	r.Shuffle(len(w.messages), func(i, j int) { w.messages[i], w.messages[j] = w.messages[j], w.messages[i] })
	return w
}

func someGrant(r *rand.Rand, id string) *grantv1.Grant {
	g := &grantv1.Grant{
		Name:       grant.GrantName("shop", id),
		Effect:     grantv1.Grant_ALLOW,
		Condition:  pick(r, forms).cel,
		ExpireTime: timestamppb.New(morning.Add(time.Duration(r.IntN(5)-1) * 15 * time.Minute)),
	}
	if r.IntN(4) == 0 {
		g.Effect = grantv1.Grant_FORBID
	}
	if r.IntN(3) == 0 {
		g.NotBefore = timestamppb.New(g.GetExpireTime().AsTime().Add(-time.Duration(1+r.IntN(3)) * 15 * time.Minute))
	}
	if g.GetEffect() == grantv1.Grant_ALLOW && r.IntN(3) == 0 {
		g.FreshnessBound = durationpb.New(pick(r, bounds))
	}
	for len(g.Targets) == 0 || r.IntN(3) == 0 {
		t := someTarget(r)
		if !slices.ContainsFunc(g.Targets, func(u *grantv1.Target) bool { return proto.Equal(t, u) }) {
			g.Targets = append(g.Targets, t)
		}
	}
	return g
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

// said is what the oracle finds one grant to say.
type said struct {
	grant  *grantv1.Grant
	exact  int // how far from naming the target exactly, 0 is exactly
	reason pdp.Reason
	stale  bool // it is an allow whose bound has passed
}

// oracle decides as the design says a call is decided, in the plainest way.
func (w world) oracle(q question) (pdp.Decision, bool) {
	var agent *grantv1.Agent
	serverKnown, toolKnown, halted := false, false, false
	longest := bound
	var all []said
	for _, m := range w.messages {
		switch m := m.(type) {
		case *grantv1.FleetState:
			halted = true
		case *grantv1.Agent:
			agent = m
		case *grantv1.Server:
			serverKnown = serverKnown || m.GetName() == "namespaces/shop/servers/"+q.call.Server
		case *grantv1.Tool:
			toolKnown = toolKnown || m.GetName() == "namespaces/shop/servers/"+q.call.Server+"/tools/"+q.call.Name
		case *grantv1.Grant:
			longest = max(longest, m.GetFreshnessBound().AsDuration())
			if s, ok := w.say(m, q); ok {
				all = append(all, s)
			}
		}
	}
	allows := slices.ContainsFunc(all, func(s said) bool { return s.grant.GetEffect() == grantv1.Grant_ALLOW })
	switch {
	case q.age >= longest || q.longest > 0 && q.age >= q.longest:
		return pdp.Decision{Reason: pdp.Stale}, false
	case halted:
		return pdp.Decision{Reason: pdp.Halted}, false
	case agent.GetState() != grantv1.Agent_ACTIVE:
		return pdp.Decision{Reason: pdp.Suspended}, false
	case q.call.Kind == pdp.Resource && slices.Contains(unclear, q.call.Name):
		return pdp.Decision{Reason: pdp.Malformed}, false
	case !allows && (!serverKnown || q.call.Kind == pdp.Tool && !toolKnown):
		return pdp.Decision{Reason: pdp.NotGranted}, false
	case !serverKnown:
		return pdp.Decision{Reason: pdp.UnknownServer}, false
	case q.call.Kind == pdp.Tool && !toolKnown:
		return pdp.Decision{Reason: pdp.UnknownTool}, false
	}
	order := []pdp.Reason{pdp.Forbidden, pdp.Granted, pdp.Stale, pdp.ConditionFalse, pdp.NotYetValid, pdp.Expired}
	slices.SortFunc(all, func(a, b said) int {
		return cmp.Or(
			slices.Index(order, a.reason)-slices.Index(order, b.reason),
			a.exact-b.exact,
			cmp.Compare(a.grant.GetName(), b.grant.GetName()),
		)
	})
	d := pdp.Decision{Reason: pdp.NotGranted}
	for _, s := range all {
		if s.grant.GetEffect() == grantv1.Grant_FORBID && s.reason != pdp.Forbidden {
			continue
		}
		d = pdp.Decision{Allow: s.reason == pdp.Granted, Reason: s.reason, Grant: s.grant.GetName()}
		break
	}
	return d, visible(all)
}

func visible(all []said) bool {
	listed := false
	for _, s := range all {
		inWindow := s.reason != pdp.Expired && s.reason != pdp.NotYetValid
		if s.grant.GetEffect() == grantv1.Grant_ALLOW {
			listed = listed || inWindow && !s.stale
		} else if inWindow && s.grant.GetCondition() == "" {
			return false
		}
	}
	return listed
}

// say returns what a grant says of a call; ok is false if it does not cover it.
func (w world) say(g *grantv1.Grant, q question) (s said, ok bool) {
	s = said{grant: g, exact: -1}
	for _, t := range g.GetTargets() {
		if n := distance(t, q.call); n >= 0 && (s.exact < 0 || n < s.exact) {
			s.exact = n
		}
	}
	forbid := g.GetEffect() == grantv1.Grant_FORBID
	own := bound
	if g.GetFreshnessBound() != nil {
		own = g.GetFreshnessBound().AsDuration()
	}
	s.stale = !forbid && (q.age >= own || q.longest > 0 && q.age >= q.longest)
	holds, evaluated := false, false
	for _, f := range forms {
		if f.cel == g.GetCondition() {
			holds, evaluated = f.eval(q, w)
		}
	}
	switch {
	case !q.at.Before(g.GetExpireTime().AsTime()):
		s.reason = pdp.Expired
	case g.GetNotBefore() != nil && q.at.Before(g.GetNotBefore().AsTime()):
		s.reason = pdp.NotYetValid
	case forbid && (holds || !evaluated):
		s.reason = pdp.Forbidden
	case !forbid && holds && evaluated && s.stale:
		s.reason = pdp.Stale
	case !forbid && holds && evaluated:
		s.reason = pdp.Granted
	default:
		s.reason = pdp.ConditionFalse
	}
	return s, s.exact >= 0
}

// distance returns how exactly a target names what is called: 0 is exactly, -1
// not at all.
func distance(t *grantv1.Target, c pdp.Call) int {
	full := c.Server + "/" + c.Name
	kind, pattern := pdp.Kind(0), ""
	switch t := t.GetTarget().(type) {
	case *grantv1.Target_Tool:
		kind, pattern = pdp.Tool, t.Tool
	case *grantv1.Target_Resource:
		kind, pattern = pdp.Resource, t.Resource
	case *grantv1.Target_Prompt:
		kind, pattern = pdp.Prompt, t.Prompt
	case *grantv1.Target_Method:
		kind, pattern = pdp.Method, t.Method
	}
	prefix, open := strings.CutSuffix(pattern, "*")
	switch {
	case kind != c.Kind:
		return -1
	case pattern == full:
		return 0
	case open && strings.HasPrefix(full, prefix):
		return 1 + len(full) - len(prefix)
	default:
		return -1
	}
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
	return grant.Empty().Apply(int64(len(w.messages)), entries, nil)
}

// TestOracle compares 10,000 decisions with the oracle's.
func TestOracle(t *testing.T) {
	t.Parallel()
	reasons := make(map[pdp.Reason]int)
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := someWorld(r)
		s := w.snapshot(t)
		for range 20 {
			q := someQuestion(t, r)
			want, listed := w.oracle(q)
			want.Revision = s.Revision()
			if e, ok := s.Lookup(want.Grant); ok {
				want.GrantRevision = e.Revision()
			}
			if got := pdp.Decide(s, q.call, q.asked()); got != want {
				t.Fatalf("seed %d, %v with %v at %v, %s of %s old:\n got %v\nwant %v", seed, q.call, q.args, q.at, q.age, q.longest, got, want)
			}
			if got := pdp.Visible(s, q.call, q.asked()); got != listed {
				t.Fatalf("seed %d, %v: visible is %t, want %t", seed, q.call, got, listed)
			}
			reasons[want.Reason]++
		}
	}
	for _, r := range []pdp.Reason{
		pdp.Granted, pdp.NotGranted, pdp.Forbidden, pdp.ConditionFalse, pdp.Expired, pdp.NotYetValid,
		pdp.Stale, pdp.Halted, pdp.Suspended, pdp.UnknownTool, pdp.UnknownServer, pdp.Malformed,
	} {
		if reasons[r] < 50 {
			t.Errorf("only %d of 10,000 cases are %s", reasons[r], r)
		}
	}
}
