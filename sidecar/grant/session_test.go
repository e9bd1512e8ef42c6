package grant_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

var somebody = "sha256:" + strings.Repeat("0a", 32)

func fullSession() *grantv1.Session {
	return &grantv1.Session{
		Name:        "namespaces/shop/agents/triage/sessions/run",
		Etag:        "9",
		CreateTime:  timestamppb.New(noon),
		AgentUid:    "triage-1",
		Origin:      grantv1.Session_ADMIN,
		User:        "ann@example.com",
		Purpose:     "refunds",
		ExpireTime:  timestamppb.New(noon.Add(time.Hour)),
		Limits:      &grantv1.Limits{MaxCalls: 10, Rate: &grantv1.Rate{Calls: 2, Per: durationpb.New(time.Second)}},
		Claimant:    somebody,
		Description: "asked for by Ann",
		Actor:       "spiffe://td/admin/bob",
	}
}

func projected(m proto.Message) proto.Message {
	switch m := m.(type) {
	case *grantv1.Grant:
		return grant.Project(m)
	case *grantv1.Agent:
		return grant.ProjectAgent(m)
	case *grantv1.Server:
		return grant.ProjectServer(m)
	case *grantv1.Tool:
		return grant.ProjectTool(m)
	case *grantv1.Session:
		return grant.ProjectSession(m)
	case *grantv1.FleetState:
		return grant.ProjectFleetState(m)
	default:
		return nil
	}
}

func TestParseSession(t *testing.T) {
	t.Parallel()
	for _, m := range []*grantv1.Session{fullSession(), grant.ProjectSession(fullSession())} {
		s, err := grant.ParseSession(m, 9)
		if err != nil {
			t.Fatal(err)
		}
		if s.Name() != m.GetName() || s.Revision() != 9 || s.Message() != m || s.ID() != "run" || s.Agent() != "namespaces/shop/agents/triage" ||
			s.User() != "ann@example.com" || s.Purpose() != "refunds" || s.Origin() != grantv1.Session_ADMIN || s.Claimant() != somebody {
			t.Errorf("got %+v", s)
		}
		if end := grant.Instant(noon.Add(time.Hour)); s.Expired(end-1) || !s.Expired(end) {
			t.Error("it ends at another instant")
		}
		if want := (grant.Limits{MaxCalls: 10, Rate: grant.Rate{Calls: 2, Per: time.Second}}); s.Limits() != want {
			t.Errorf("its limits are %+v", s.Limits())
		}
	}
}

// TestSessionRefuses holds P6 and P7: a session that says something that cannot
// be kept is refused, by field.
func TestSessionRefuses(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*grantv1.Session){
		"name: ":                     func(m *grantv1.Session) { m.Name = "namespaces/shop/agents/triage" },
		"field that this version":    func(m *grantv1.Session) { m.ProtoReflect().SetUnknown([]byte{0xa0, 0x06, 0x01}) },
		"origin: ":                   func(m *grantv1.Session) { m.Origin = 0 },
		"origin: invalid: want":      func(m *grantv1.Session) { m.Origin = 3 },
		"user: invalid: a user has":  func(m *grantv1.Session) { m.User = "ann\n" },
		"user: ":                     func(m *grantv1.Session) { m.User = strings.Repeat("a", 255) },
		"on behalf of nobody":        func(m *grantv1.Session) { m.Origin = grantv1.Session_AGENT },
		"purpose: ":                  func(m *grantv1.Session) { m.Purpose = "Refunds" },
		"claimant: ":                 func(m *grantv1.Session) { m.Claimant = "sha256:0A" },
		"expire_time: invalid: a s":  func(m *grantv1.Session) { m.ExpireTime = nil },
		"expire_time: invalid: ":     func(m *grantv1.Session) { m.ExpireTime = &timestamppb.Timestamp{Nanos: -1} },
		"limits.scope: invalid: a s": func(m *grantv1.Session) { m.Limits.Scope = grantv1.Limits_SIDECAR },
		"limits.max_calls: ":         func(m *grantv1.Session) { m.Limits.MaxCalls = -1 },
	} {
		m := fullSession()
		change(m)
		if e, err := grant.ParseEntry(m, 1); e != nil || !errors.Is(err, grant.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v\nwant ErrInvalid that says %q", e, err, want)
		}
	}
}

func limited(l *grantv1.Limits) *grantv1.Grant {
	g := stored()
	g.Uid, g.Limits = "g-1", l
	return g
}

func TestLimits(t *testing.T) {
	t.Parallel()
	rate := func(calls int32, per time.Duration) *grantv1.Rate {
		return &grantv1.Rate{Calls: calls, Per: durationpb.New(per)}
	}
	for _, c := range []struct {
		m    *grantv1.Limits
		want grant.Limits
		bad  string
	}{
		{m: nil},
		{m: &grantv1.Limits{MaxCalls: 3}, want: grant.Limits{MaxCalls: 3}},
		{m: &grantv1.Limits{MaxCalls: 3, Scope: grantv1.Limits_SIDECAR}, want: grant.Limits{MaxCalls: 3}},
		{m: &grantv1.Limits{MaxCalls: 3, Scope: grantv1.Limits_AGENT}, want: grant.Limits{MaxCalls: 3, Scope: grant.AgentScope}},
		{m: &grantv1.Limits{MaxCalls: 1e9, Scope: grantv1.Limits_ALL}, want: grant.Limits{MaxCalls: 1e9, Scope: grant.AllScope}},
		{m: &grantv1.Limits{Rate: rate(1000, 24*time.Hour)}, want: grant.Limits{Rate: grant.Rate{Calls: 1000, Per: 24 * time.Hour}}},
		{m: &grantv1.Limits{}, bad: "limits: invalid: want max_calls"},
		{m: &grantv1.Limits{Scope: grantv1.Limits_ALL}, bad: "limits: invalid: want max_calls"},
		{m: &grantv1.Limits{MaxCalls: -1}, bad: "limits.max_calls: "},
		{m: &grantv1.Limits{MaxCalls: 1e9 + 1}, bad: "limits.max_calls: "},
		{m: &grantv1.Limits{MaxCalls: 3, Scope: 4}, bad: "limits.scope: "},
		{m: &grantv1.Limits{MaxCalls: 3, Scope: grantv1.Limits_AGENT, Rate: rate(1, time.Second)}, bad: "limits.rate: invalid: each sidecar"},
		{m: &grantv1.Limits{Scope: grantv1.Limits_ALL, Rate: rate(1, time.Second)}, bad: "limits.rate: invalid: each sidecar"},
		{m: &grantv1.Limits{Rate: rate(0, time.Second)}, bad: "limits.rate.calls: "},
		{m: &grantv1.Limits{Rate: rate(1001, time.Second)}, bad: "limits.rate.calls: "},
		{m: &grantv1.Limits{Rate: rate(1, time.Second-1)}, bad: "limits.rate.per: "},
		{m: &grantv1.Limits{Rate: rate(1, 24*time.Hour+1)}, bad: "limits.rate.per: "},
		{m: &grantv1.Limits{Rate: &grantv1.Rate{Calls: 1}}, bad: "limits.rate.per: "},
		{m: &grantv1.Limits{Rate: &grantv1.Rate{Calls: 1, Per: &durationpb.Duration{Seconds: math.MaxInt64}}}, bad: "limits.rate.per: "},
	} {
		g, err := grant.ParseGrant(limited(c.m), 1)
		switch {
		case c.bad != "" && (!errors.Is(err, grant.ErrInvalid) || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%v: got %v, want ErrInvalid that says %q", c.m, err, c.bad)
		case c.bad != "":
		case err != nil:
			t.Errorf("%v: %v", c.m, err)
		case g.Limits() != c.want || g.Limited() != c.want.Any() || g.UID() != "g-1":
			t.Errorf("%v: got %+v of %s", c.m, g.Limits(), g.UID())
		}
	}
}

// TestUID: what is counted is counted under a uid, which a grant has from when
// the store wrote it first.
func TestUID(t *testing.T) {
	t.Parallel()
	g := limited(&grantv1.Limits{MaxCalls: 1})
	g.Uid = ""
	if _, err := grant.ParseGrant(g, 0); err != nil {
		t.Errorf("it is not stored yet: %v", err)
	}
	if _, err := grant.ParseGrant(g, 1); !errors.Is(err, grant.ErrInvalid) || !strings.Contains(err.Error(), "uid: ") {
		t.Errorf("it is stored, and has no uid: %v", err)
	}
	g.Uid = strings.Repeat("x", 37)
	if _, err := grant.ParseGrant(g, 1); err == nil || !strings.Contains(err.Error(), "uid: ") {
		t.Errorf("a long uid: %v", err)
	}
	g.Uid, g.Limits = "", nil
	if _, err := grant.ParseGrant(g, 1); err != nil {
		t.Errorf("it has no limits: %v", err)
	}
	g = limited(&grantv1.Limits{MaxCalls: 1})
	if g.Effect = grantv1.Grant_FORBID; g.FreshnessBound != nil {
		g.FreshnessBound = nil
	}
	if _, err := grant.ParseGrant(g, 1); err == nil || !strings.Contains(err.Error(), "limits: invalid: only an ALLOW") {
		t.Errorf("a limited forbid: %v", err)
	}
	for _, m := range []*grantv1.Limits{{MaxCalls: 1}, {Rate: &grantv1.Rate{Calls: 1, Per: durationpb.New(time.Second)}}} {
		unknown := []byte{0xa0, 0x06, 0x01}
		if m.ProtoReflect().SetUnknown(unknown); m.GetRate() != nil {
			m.ProtoReflect().SetUnknown(nil)
			m.GetRate().ProtoReflect().SetUnknown(unknown)
		}
		if _, err := grant.ParseGrant(limited(m), 1); err == nil || !strings.Contains(err.Error(), "this version does not know") {
			t.Errorf("%v: %v", m, err)
		}
	}
}

func TestSessionRequirement(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		m    *grantv1.SessionRequirement
		want string
	}{
		{&grantv1.SessionRequirement{}, ""},
		{&grantv1.SessionRequirement{AnyUser: true, Users: []string{"ann"}, Purposes: []string{"a.b-c_d"}}, ""},
		{&grantv1.SessionRequirement{SelfOpened: true, Purposes: []string{"a"}}, ""},
		{&grantv1.SessionRequirement{SelfOpened: true, AnyUser: true}, "session.self_opened: "},
		{&grantv1.SessionRequirement{SelfOpened: true, Users: []string{"ann"}}, "session.self_opened: "},
		{&grantv1.SessionRequirement{Purposes: []string{"a", ""}}, "session.purposes[1]: "},
		{&grantv1.SessionRequirement{Purposes: []string{"A"}}, "session.purposes[0]: "},
		{&grantv1.SessionRequirement{Purposes: make([]string, 33)}, "session.purposes: invalid: 33 purposes"},
		{&grantv1.SessionRequirement{Users: []string{""}}, "session.users[0]: "},
		{&grantv1.SessionRequirement{Users: []string{"ann\u202e"}}, "session.users[0]: "},
		{&grantv1.SessionRequirement{Users: make([]string, 101)}, "session.users: invalid: 101 users"},
	} {
		g := stored()
		g.Session = c.m
		parsed, err := grant.ParseGrant(g, 1)
		switch {
		case c.want == "" && (err != nil || !parsed.NeedsSession() || parsed.MetBy(nil)):
			t.Errorf("%v: got %v, %v", c.m, parsed, err)
		case c.want != "" && (!errors.Is(err, grant.ErrInvalid) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%v: got %v, want ErrInvalid that says %q", c.m, err, c.want)
		}
	}
	g := stored()
	g.Session = &grantv1.SessionRequirement{}
	g.Session.ProtoReflect().SetUnknown([]byte{0xa0, 0x06, 0x01})
	if _, err := grant.ParseGrant(g, 1); err == nil || !strings.Contains(err.Error(), "session: invalid: it requires something") {
		t.Errorf("what is not known is required: %v", err)
	}
	g.Session, g.Effect, g.FreshnessBound = &grantv1.SessionRequirement{}, grantv1.Grant_FORBID, nil
	if _, err := grant.ParseGrant(g, 1); err == nil || !strings.Contains(err.Error(), "session: invalid: only an ALLOW") {
		t.Errorf("a forbid that needs a session: %v", err)
	}
}

// TestSnapshotSession: a snapshot knows the sessions of its own agent, of this
// incarnation, and keeps whose claims are its own.
func TestSnapshotSession(t *testing.T) {
	t.Parallel()
	agent, err := grant.ParseAgent(&grantv1.Agent{Name: "namespaces/shop/agents/triage", State: grantv1.Agent_ACTIVE, Uid: "triage-1"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(change func(*grantv1.Session)) grant.Entry {
		m := fullSession()
		change(m)
		e, err := grant.ParseEntry(m, 2)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	run := entry(func(*grantv1.Session) {})
	other := entry(func(m *grantv1.Session) { m.Name = "namespaces/shop/agents/another/sessions/run" })
	old := entry(func(m *grantv1.Session) {
		m.Name, m.AgentUid = "namespaces/shop/agents/triage/sessions/old", "triage-0"
	})
	s := grant.Empty().As(somebody).Apply(1, []grant.Entry{run, other, old, agent, other}, nil)
	if s.Claimant() != somebody || s.Apply(2, nil, nil).Claimant() != somebody || s.As("").Claimant() != "" || grant.Empty().Claimant() != "" {
		t.Error("the claimant is another")
	}
	if got := s.Session("run"); got != run || s.Session("old") != nil || s.Session("") != nil || s.Session("never") != nil {
		t.Errorf("got %v", got)
	}
	if got := s.Apply(2, nil, []string{other.Name()}).Session("run"); got != run {
		t.Errorf("another's session ended, and ours is %v", got)
	}
	again := entry(func(m *grantv1.Session) { m.User = "bob" })
	if got := s.Apply(2, []grant.Entry{again}, nil).Session("run"); got != again {
		t.Errorf("written again, it is %v", got)
	}
	if got := s.Apply(2, nil, []string{run.Name()}).Session("run"); got != nil {
		t.Errorf("it ended, and is %v", got)
	}
	if got := s.Apply(2, nil, []string{agent.Name()}).Session("run"); got != nil {
		t.Errorf("there is no agent, and its session is %v", got)
	}
	if s.Session("run") != run {
		t.Error("the snapshot changed")
	}
}
