package snapshot

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// A world is a store that the test plays and the snapshots that follow it.
type world struct {
	snapshots *Snapshots
	revision  int64
	stored    map[string]store.Resource
	told      []string // whose sets changed with the last change
}

func newWorld() *world {
	w := &world{snapshots: New(slog.New(slog.DiscardHandler)), stored: make(map[string]store.Resource)}
	w.snapshots.Follow(func(_ *Snapshot, agents []string) { w.told = agents })
	return w
}

func (w *world) change(puts []proto.Message, deletes ...string) error {
	w.revision++
	e := store.Event{
		Revision: w.revision, Load: w.revision == 1, Head: store.Head{StoreID: "store"},
		Puts: make(map[string]store.Resource), Deletes: deletes,
	}
	for _, m := range puts {
		name := m.(interface{ GetName() string }).GetName()
		e.Puts[name] = store.Resource{Name: name, Message: m, Revision: w.revision}
	}
	maps.Copy(w.stored, e.Puts)
	for _, name := range deletes {
		delete(w.stored, name)
	}
	return w.snapshots.apply(context.Background(), e)
}

// naive works out the set of an agent from all that is stored.
func (w *world) naive(a *grantv1.Agent) map[string]int64 {
	n, _ := grant.ParseName(a.GetName())
	set := map[string]int64{a.GetName(): w.stored[a.GetName()].Revision}
	var targets []string
	for name, r := range w.stored {
		g, ok := r.Message.(*grantv1.Grant)
		if !ok || !strings.HasPrefix(name, "namespaces/"+n.Namespace+"/") || !grant.Covers(g.GetSubjects(), n.ID, a.GetLabels()) {
			continue
		}
		set[name] = r.Revision
		for _, t := range g.GetTargets() {
			if t.GetTool()+t.GetResource()+t.GetPrompt()+t.GetMethod() == "*" && g.GetEffect() == grantv1.Grant_FORBID {
				continue
			}
			switch {
			case t.GetResource()+t.GetPrompt()+t.GetMethod() == "*":
				targets = append(targets, "*/")
			case t.GetTool() != "":
				targets = append(targets, t.GetTool())
			default:
				server, _, _ := strings.Cut(t.GetResource()+t.GetPrompt()+t.GetMethod(), "/")
				targets = append(targets, server+"/")
			}
		}
	}
	for name, r := range w.stored {
		if _, ok := r.Message.(*grantv1.FleetState); ok && (name == "fleet" || name == "namespaces/"+n.Namespace+"/fleet") {
			set[name] = r.Revision
		}
		if one, ok := r.Message.(*grantv1.Session); ok && strings.HasPrefix(name, a.GetName()+"/") && one.GetAgentUid() == a.GetUid() {
			set[name] = r.Revision
		}
		c, err := grant.ParseName(name)
		if err != nil || c.Namespace != n.Namespace {
			continue
		}
		for _, t := range targets {
			server, tool, _ := strings.Cut(t, "/")
			reached := c.Collection == grant.Servers && c.ID == server ||
				c.Collection == grant.Tools && c.Server == server && (tool == "*" || tool == c.ID) ||
				t == "*" && (c.Collection == grant.Servers || c.Collection == grant.Tools) ||
				t == "*/" && c.Collection == grant.Servers
			if reached {
				set[name] = r.Revision
			}
		}
	}
	return set
}

// draw makes one of the few resources that the property is about.
func draw(t *rapid.T) proto.Message {
	namespace := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "namespace")
	agents := rapid.SampledFrom([]string{"a", "b"})
	servers := rapid.SampledFrom([]string{"s", "t"})
	incarnations := rapid.SampledFrom([]string{"1", "2"})
	switch rapid.IntRange(0, 8).Draw(t, "kind") {
	case 7, 8:
		return &grantv1.Session{
			Name:     grant.SessionName(namespace, agents.Draw(t, "agent"), rapid.SampledFrom([]string{"s-1", "s-2"}).Draw(t, "session")),
			AgentUid: incarnations.Draw(t, "incarnation"), Origin: grantv1.Session_ADMIN,
			ExpireTime: timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)),
		}
	case 6:
		return &grantv1.FleetState{
			Name: rapid.SampledFrom([]string{"fleet", grant.FleetName(namespace)}).Draw(t, "fleet"), State: grantv1.FleetState_HALTED,
		}
	case 0, 1:
		m := &grantv1.Agent{Name: grant.AgentName(namespace, agents.Draw(t, "agent")), State: grantv1.Agent_ACTIVE, Uid: incarnations.Draw(t, "incarnation"), Labels: map[string]string{}}
		for _, key := range []string{"k", "l"} {
			if v := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, key); v != "" {
				m.Labels[key] = v
			}
		}
		return m
	case 2:
		return &grantv1.Server{Name: grant.ServerName(namespace, servers.Draw(t, "server"))}
	case 3:
		return &grantv1.Tool{Name: grant.ToolName(namespace, servers.Draw(t, "server"), rapid.SampledFrom([]string{"p", "q/r"}).Draw(t, "tool"))}
	default:
		m := &grantv1.Grant{
			Name: grant.GrantName(namespace, rapid.SampledFrom([]string{"g", "h", "i"}).Draw(t, "grant")), Effect: grantv1.Grant_ALLOW,
			Subjects:   &grantv1.Subjects{Agents: rapid.SliceOfNDistinct(agents, 0, 2, rapid.ID).Draw(t, "agents")},
			ExpireTime: timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)),
		}
		if rapid.IntRange(0, 3).Draw(t, "forbids") == 0 {
			m.Effect = grantv1.Grant_FORBID
		} else if s := rapid.IntRange(0, 3).Draw(t, "bound"); s > 0 {
			m.FreshnessBound = durationpb.New(time.Duration(s) * time.Second)
		}
		if rapid.Bool().Draw(t, "selects") {
			m.Subjects.Selector = &grantv1.LabelSelector{MatchLabels: map[string]string{
				rapid.SampledFrom([]string{"k", "l"}).Draw(t, "key"): rapid.SampledFrom([]string{"1", "2"}).Draw(t, "value"),
			}}
		}
		for range rapid.IntRange(1, 2).Draw(t, "targets") {
			server := servers.Draw(t, "server")
			m.Targets = append(m.Targets, rapid.SampledFrom([]*grantv1.Target{
				{Target: &grantv1.Target_Tool{Tool: "*"}},
				{Target: &grantv1.Target_Resource{Resource: "*"}},
				{Target: &grantv1.Target_Prompt{Prompt: "*"}},
				{Target: &grantv1.Target_Method{Method: "*"}},
				{Target: &grantv1.Target_Tool{Tool: server + "/*"}},
				{Target: &grantv1.Target_Tool{Tool: server + "/q/r"}},
				{Target: &grantv1.Target_Resource{Resource: server + "/file://*"}},
				{Target: &grantv1.Target_Method{Method: server + "/*"}},
			}).Draw(t, "target"))
		}
		return m
	}
}

func grantOf(id string, agents ...string) *grantv1.Grant {
	return &grantv1.Grant{
		Name: grant.GrantName("x", id), Effect: grantv1.Grant_ALLOW, Subjects: &grantv1.Subjects{Agents: agents},
		Targets: []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "s/p"}}},
	}
}
