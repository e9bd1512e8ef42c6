package snapshot

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

func agentNamed(id, uid string) *grantv1.Agent {
	return &grantv1.Agent{Name: grant.AgentName("x", id), Uid: uid, State: grantv1.Agent_ACTIVE}
}

func sessionOf(agent, uid, id string, ends time.Time) *grantv1.Session {
	return &grantv1.Session{
		Name: grant.SessionName("x", agent, id), AgentUid: uid, Origin: grantv1.Session_ADMIN, ExpireTime: timestamppb.New(ends),
	}
}

// P6: an agent that is made anew does not inherit the sessions of the earlier one,
// though they are there still; and only whose session it is is told.
func TestSessionsOfAnIncarnation(t *testing.T) {
	w := newWorld()
	ends := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	one := sessionOf("a", "1", "s-1", ends)
	if err := w.change([]proto.Message{agentNamed("a", "1"), agentNamed("b", "1"), one}); err != nil {
		t.Fatal(err)
	}
	holds := func(agent string) bool {
		newest, _ := w.snapshots.Newest()
		return newest.View(grant.AgentName("x", agent)).Find(Sessions, one.GetName()) != nil
	}
	if !holds("a") || holds("b") {
		t.Errorf("a holds its session: %t, b holds it: %t", holds("a"), holds("b"))
	}
	if err := w.change([]proto.Message{agentNamed("a", "2")}); err != nil {
		t.Fatal(err)
	}
	if holds("a") {
		t.Error("a is another now, and holds the session of the first")
	}
	if err := w.change([]proto.Message{sessionOf("a", "2", "s-1", ends)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{grant.AgentName("x", "a")}, w.told); diff != "" || !holds("a") {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestSessionsOver(t *testing.T) {
	w := newWorld()
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	if err := w.change([]proto.Message{
		agentNamed("a", "1"), agentNamed("b", "1"), grantOf("g", "a"),
		sessionOf("b", "1", "s-1", at.Add(-time.Hour)),
		sessionOf("a", "1", "s-1", at.Add(-time.Nanosecond)),
		sessionOf("a", "1", "s-2", at),
		sessionOf("a", "1", "s-3", at.Add(time.Hour)),
	}); err != nil {
		t.Fatal(err)
	}
	newest, _ := w.snapshots.Newest()
	want := []string{"namespaces/x/agents/a/sessions/s-1", "namespaces/x/agents/b/sessions/s-1"}
	if diff := cmp.Diff(want, newest.SessionsOver(at)); diff != "" {
		t.Errorf("over (-want +got):\n%s", diff)
	}
}
