package snapshot

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// P5: however the store came to be as it is, every agent's set is what the
// grants that cover it say, and who is told of a change is whose set it changed.
func TestSetsAreRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		if err := w.change(nil); err != nil {
			t.Fatal(err)
		}
		views := make(map[string]*View)
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				var puts []proto.Message
				var deletes []string
				touched := make(map[string]bool)
				for range rapid.IntRange(1, 3).Draw(t, "size") {
					m := draw(t)
					name := m.(interface{ GetName() string }).GetName()
					if touched[name] {
						continue
					}
					touched[name] = true
					if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
						deletes = append(deletes, name)
					} else {
						puts = append(puts, m)
					}
				}
				slices.Sort(deletes)
				if err := w.change(puts, deletes...); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				newest, _ := w.snapshots.Newest()
				var changed []string
				for _, namespace := range []string{"x", "y"} {
					for _, id := range []string{"a", "b"} {
						name := grant.AgentName(namespace, id)
						view := newest.View(name)
						if view != views[name] {
							changed = append(changed, name)
						}
						views[name] = view
						a, _ := w.stored[name].Message.(*grantv1.Agent)
						if (a == nil) != (view == nil) {
							t.Fatalf("%s: stored %t, view %t", name, a != nil, view != nil)
						}
						if a == nil {
							continue
						}
						got := make(map[string]int64)
						var bound time.Duration
						for _, e := range view.Entries() {
							got[e.Name] = e.Revision
							if g, ok := w.stored[e.Name].Message.(*grantv1.Grant); ok && g.GetEffect() == grantv1.Grant_ALLOW {
								bound = max(bound, g.GetFreshnessBound().AsDuration())
							}
						}
						if view.Bound() != bound {
							t.Fatalf("the longest bound of %s is %s, want %s", name, view.Bound(), bound)
						}
						if diff := cmp.Diff(w.naive(a), got); diff != "" {
							t.Fatalf("set of %s (-want +got):\n%s", name, diff)
						}
						if !slices.IsSortedFunc(view.Entries(), compareEntries) {
							t.Fatalf("set of %s is out of order", name)
						}
					}
				}
				if !slices.Equal(changed, w.told) {
					t.Fatalf("told %v, changed %v", w.told, changed)
				}
				w.told = nil
			},
		})
	})
}

// P5: what is streamed names nobody else, and is what the store has otherwise.
func TestEntryIsProjected(t *testing.T) {
	g := &grantv1.Grant{
		Name: grant.GrantName("x", "g"), Effect: grantv1.Grant_FORBID, Description: "secret plans", Etag: "7",
		Subjects:   &grantv1.Subjects{Agents: []string{"somebody"}},
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "s/p"}}},
		ExpireTime: timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	e, err := newEntry(g.GetName(), 7, g)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"somebody", "secret"} {
		if strings.Contains(string(e.Wire), word) {
			t.Errorf("streams %q", word)
		}
	}
	var m discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal(e.Wire, &m); err != nil {
		t.Fatal(err)
	}
	r := m.GetResources()
	if len(r) != 1 || r[0].GetName() != g.GetName() || r[0].GetVersion() != "7" {
		t.Errorf("streamed as %v", r)
	}
	if !e.Takes {
		t.Error("a ban is not known to take")
	}
	held, err := NewView([]*Entry{e}).Held(9)
	if err != nil || held.Revision() != 9 || held.Len() != 1 {
		t.Errorf("held as %v (%v)", held, err)
	}
	halt := &grantv1.FleetState{Name: "fleet", State: grantv1.FleetState_HALTED, Reason: "secret plans", Actor: "somebody", CreateTime: timestamppb.Now()}
	e, err = newEntry(halt.GetName(), 8, halt)
	if err != nil || !e.Takes || e.Type != FleetStates || strings.Contains(string(e.Wire), "secret") || strings.Contains(string(e.Wire), "somebody") {
		t.Errorf("a stop button is streamed as %+v (%v)", e, err)
	}
	if held, err := NewView([]*Entry{e}).Held(9); err != nil || !held.Halted() {
		t.Errorf("held as %v (%v)", held, err)
	}
	session := &grantv1.Session{
		Name: grant.SessionName("x", "a", "s-1"), AgentUid: "1", Origin: grantv1.Session_ADMIN, Purpose: "refunds", Description: "secret plans",
		Actor: "somebody", ExpireTime: timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	e, err = newEntry(session.GetName(), 8, session)
	if err != nil || e.Takes || e.Type != Sessions || !e.Ends.Equal(session.GetExpireTime().AsTime()) ||
		strings.Contains(string(e.Wire), "secret") || strings.Contains(string(e.Wire), "somebody") {
		t.Errorf("a session is streamed as %+v (%v)", e, err)
	}
	if held, err := NewView([]*Entry{e}).Held(9); err != nil || held.Len() != 1 {
		t.Errorf("held as %v (%v)", held, err)
	}
	if _, err := newEntry("x", 1, &adminv1.Admin{}); err == nil {
		t.Error("an administrator can be streamed")
	}
}

func TestAdmit(t *testing.T) {
	w := newWorld()
	agent := func(id string, state grantv1.Agent_State) *grantv1.Agent {
		return &grantv1.Agent{Name: grant.AgentName("x", id), Uid: "1", State: state}
	}
	if err := w.change([]proto.Message{
		agent("a", grantv1.Agent_ACTIVE), agent("s", grantv1.Agent_SUSPENDED), agent("r", grantv1.Agent_RETIRED),
		&adminv1.Admin{Name: "admins/root", Uid: "1"}, &adminv1.Admin{Name: "admins/gone", Uid: "1"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.change(nil, "admins/gone"); err != nil {
		t.Fatal(err)
	}
	s, _ := w.snapshots.Newest()
	for _, c := range []struct {
		kind      identity.PeerKind
		name, uid string
		want      bool
	}{
		{identity.Agent, grant.AgentName("x", "a"), "1", true},
		{identity.Agent, grant.AgentName("x", "a"), "0", false},
		{identity.Agent, grant.AgentName("x", "a"), "", false},
		{identity.Agent, grant.AgentName("y", "a"), "1", false},
		{identity.Agent, grant.AgentName("x", "s"), "1", false},
		{identity.Agent, grant.AgentName("x", "r"), "1", false},
		{identity.Agent, "admins/root", "1", false},
		{identity.Admin, "admins/root", "1", true},
		{identity.Admin, "admins/root", "2", false},
		{identity.Admin, "admins/gone", "1", false},
		{identity.Admin, grant.AgentName("x", "a"), "1", false},
		{identity.ControlPlane, "controlplane", "", true},
		{0, "controlplane", "", false},
	} {
		err := s.Admit(identity.Peer{ID: spiffeid.RequireFromString("spiffe://td/x"), Kind: c.kind, Name: c.name, UID: c.uid})
		if (err == nil) != c.want || err != nil && !errors.Is(err, ErrNotAdmitted) {
			t.Errorf("admit %s %q of %q: %v", c.kind, c.uid, c.name, err)
		}
	}
}

// Newest tells when it is stale, and older snapshots stay as they were.
func TestNewest(t *testing.T) {
	w := newWorld()
	a := &grantv1.Agent{Name: grant.AgentName("x", "a"), Uid: "1", State: grantv1.Agent_ACTIVE}
	if err := w.change([]proto.Message{a}); err != nil {
		t.Fatal(err)
	}
	<-w.snapshots.Ready()
	old, stale := w.snapshots.Newest()
	select {
	case <-stale:
		t.Fatal("stale already")
	default:
	}
	if err := w.change(nil, a.GetName()); err != nil {
		t.Fatal(err)
	}
	<-stale
	newest, _ := w.snapshots.Newest()
	if old.View(a.GetName()) == nil || newest.View(a.GetName()) != nil || newest.Revision() != 2 || newest.StoreID() != "store" {
		t.Error("a snapshot changed, or the newest did not")
	}
	w.revision = 0
	if err := w.change(nil); err == nil {
		t.Error("went backwards")
	}
}

// What is gone costs nothing: of namespaces and servers that came and went
// nothing stays.
func TestNothingStays(t *testing.T) {
	w := newWorld()
	puts := []proto.Message{
		&grantv1.Namespace{Name: "namespaces/n"},
		&grantv1.FleetState{Name: "namespaces/n/fleet", State: grantv1.FleetState_HALTED},
		&grantv1.Agent{Name: "namespaces/n/agents/a", Uid: "u", State: grantv1.Agent_ACTIVE},
		&grantv1.Session{Name: "namespaces/n/agents/a/sessions/s-1", AgentUid: "u"},
		&grantv1.Session{Name: "namespaces/n/agents/nobody/sessions/s-1", AgentUid: "u"},
		&grantv1.Server{Name: "namespaces/n/servers/s"},
		&grantv1.Tool{Name: "namespaces/n/servers/s/tools/t"},
		&grantv1.Grant{
			Name: "namespaces/n/grants/g", Subjects: &grantv1.Subjects{Agents: []string{"a"}},
			Targets: []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "s/t"}}},
		},
	}
	if err := w.change(puts); err != nil {
		t.Fatal(err)
	}
	// As an event has them: a namespace before what is in it.
	names := slices.Sorted(maps.Keys(w.stored))
	if err := w.change(nil, names...); err != nil {
		t.Fatal(err)
	}
	if newest, _ := w.snapshots.Newest(); newest.View("namespaces/n/agents/a") != nil {
		t.Error("the agent still has a set")
	}
	if b := w.snapshots.builder; len(b.spaces)+len(b.halts) != 0 {
		t.Errorf("%d namespaces and %d stop buttons stay", len(b.spaces), len(b.halts))
	}
}
