package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// start starts a session on behalf of a user.
func (w world) start(t *testing.T, conn *grpc.ClientConn, user string) *grantv1.Session {
	t.Helper()
	m, err := adminv1.NewSessionsClient(conn).StartSession(t.Context(), &adminv1.StartSessionRequest{Parent: w.agent, User: user})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sessions returns the names of the sessions below a parent, read two at a time.
func sessions(t *testing.T, conn *grpc.ClientConn, parent string) []string {
	t.Helper()
	var names []string
	req := &adminv1.ListSessionsRequest{Parent: parent, PageSize: 2}
	for {
		resp, err := adminv1.NewSessionsClient(conn).ListSessions(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range resp.GetSessions() {
			names = append(names, m.GetName())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return names
		}
	}
}

// P7: a session that is started says by whom, for whom, and until when, and is
// recorded like any change.
func TestStartSession(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	client := adminv1.NewSessionsClient(owner)
	req := &adminv1.StartSessionRequest{
		Parent: w.agent, User: "ada@example.com", Purpose: "refunds", Ttl: durationpb.New(5 * time.Minute),
		Limits: &grantv1.Limits{MaxCalls: 7}, Description: "ticket 7", Reason: "she asked", ValidateOnly: true,
	}
	if would, err := client.StartSession(t.Context(), req); err != nil || would.GetEtag() != "" || len(sessions(t, owner, w.agent)) != 0 {
		t.Errorf("only validated: %v, %v", would, err)
	}
	req.ValidateOnly = false
	var header metadata.MD
	got, err := client.StartSession(t.Context(), req, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	agent, err := adminv1.NewAgentsClient(owner).GetAgent(t.Context(), &adminv1.GetAgentRequest{Name: w.agent})
	if err != nil {
		t.Fatal(err)
	}
	want := &grantv1.Session{
		AgentUid: agent.GetUid(), Origin: grantv1.Session_ADMIN, User: "ada@example.com", Purpose: "refunds",
		Limits: &grantv1.Limits{MaxCalls: 7}, Description: "ticket 7", Actor: "spiffe://example.test/admin/" + id(t) + "-owner",
	}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(want, "name", "etag", "create_time", "expire_time")); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(got.GetName(), w.agent+"/sessions/s-") || !slices.Equal(header.Get(admin.RevisionHeader), []string{got.GetEtag()}) {
		t.Errorf("started %s at %s, told %v", got.GetName(), got.GetEtag(), header.Get(admin.RevisionHeader))
	}
	if left := got.GetExpireTime().AsTime().Sub(got.GetCreateTime().AsTime()); left != 5*time.Minute {
		t.Errorf("goes on for %s", left)
	}
	if again, err := client.GetSession(t.Context(), &adminv1.GetSessionRequest{Name: got.GetName()}); err != nil || cmp.Diff(got, again, protocmp.Transform()) != "" {
		t.Errorf("got %v, %v", again, err)
	}
	if hour := w.start(t, owner, ""); hour.GetExpireTime().AsTime().Sub(hour.GetCreateTime().AsTime()) != time.Hour {
		t.Errorf("goes on until %s", hour.GetExpireTime().AsTime())
	}
}

// What cannot be a session is not started, nor is one of an agent that may not act.
func TestStartSessionRefused(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	client := adminv1.NewSessionsClient(owner)
	for _, c := range []struct {
		req   *adminv1.StartSessionRequest
		code  codes.Code
		words []string
	}{
		{&adminv1.StartSessionRequest{Parent: w.agent + "s"}, codes.NotFound, []string{"did you mean", "support"}},
		{&adminv1.StartSessionRequest{Parent: w.namespace}, codes.InvalidArgument, []string{"agents/{agent}"}},
		{&adminv1.StartSessionRequest{Parent: w.agent, Ttl: durationpb.New(25 * time.Hour)}, codes.InvalidArgument, []string{"ttl"}},
		{&adminv1.StartSessionRequest{Parent: w.agent, Purpose: "No Words"}, codes.InvalidArgument, []string{"purpose"}},
		{&adminv1.StartSessionRequest{Parent: w.agent, User: "a\x00b"}, codes.InvalidArgument, []string{"user"}},
		{
			&adminv1.StartSessionRequest{Parent: w.agent, Limits: &grantv1.Limits{MaxCalls: 1, Scope: grantv1.Limits_ALL}},
			codes.InvalidArgument,
			[]string{"limits.scope"},
		},
	} {
		_, err := client.StartSession(t.Context(), c.req)
		wantStatus(t, err, c.code, c.words...)
	}
	if _, err := adminv1.NewAgentsClient(owner).SuspendAgent(t.Context(), &adminv1.SuspendAgentRequest{Name: w.agent}); err != nil {
		t.Fatal(err)
	}
	_, err := client.StartSession(t.Context(), &adminv1.StartSessionRequest{Parent: w.agent})
	wantStatus(t, err, codes.FailedPrecondition, "SUSPENDED", "resume")
	if got := sessions(t, owner, w.namespace+"/agents/-"); len(got) != 0 {
		t.Errorf("started %v", got)
	}
}

// billing returns the world of another agent of the namespace.
func (w world) billing(t *testing.T, owner *grpc.ClientConn) world {
	t.Helper()
	w.agent = w.namespace + "/agents/billing"
	if _, err := adminv1.NewAgentsClient(owner).CreateAgent(t.Context(), &adminv1.CreateAgentRequest{Agent: &grantv1.Agent{Name: w.agent}}); err != nil {
		t.Fatal(err)
	}
	return w
}

// Sessions that are over are not shown, whether or not they were swept; and lists
// of agents do not show sessions.
func TestListSessions(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	other := w.billing(t, owner)
	want := []string{other.start(t, owner, "").GetName()}
	for range 4 {
		want = append(want, w.start(t, owner, "").GetName())
	}
	slices.Sort(want)
	over := &grantv1.Session{
		Name: w.agent + "/sessions/s-over", AgentUid: "x", Origin: grantv1.Session_ADMIN, ExpireTime: timestamppb.New(time.Now().Add(-time.Second)),
	}
	_, err := plane.store.Update(t.Context(), store.Meta{Action: "test"}, func(tx *store.Tx) error { return tx.Put(over.GetName(), over) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, sessions(t, owner, w.namespace+"/agents/-")); diff != "" {
		t.Errorf("of the namespace (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[1:], sessions(t, owner, w.agent)); diff != "" {
		t.Errorf("of one agent (-want +got):\n%s", diff)
	}
	client := adminv1.NewSessionsClient(owner)
	_, err = client.GetSession(t.Context(), &adminv1.GetSessionRequest{Name: over.GetName()})
	wantStatus(t, err, codes.NotFound, "s-over", "it is over")
	_, err = client.ListSessions(t.Context(), &adminv1.ListSessionsRequest{Parent: w.namespace})
	wantStatus(t, err, codes.InvalidArgument, "agents/-")
	agents, err := adminv1.NewAgentsClient(owner).ListAgents(t.Context(), &adminv1.ListAgentsRequest{Parent: w.namespace, PageSize: 1})
	if err != nil || len(agents.GetAgents()) != 1 || agents.GetNextPageToken() == "" {
		t.Fatalf("agents: %v, %v", agents, err)
	}
	agents, err = adminv1.NewAgentsClient(owner).ListAgents(t.Context(), &adminv1.ListAgentsRequest{
		Parent: w.namespace, PageSize: 1, PageToken: agents.GetNextPageToken(),
	})
	if err != nil || len(agents.GetAgents()) != 1 || agents.GetNextPageToken() != "" {
		t.Errorf("agents: %v, %v", agents, err)
	}
}

// P2, P7: sessions are ended together or not at all, and by nobody else's name.
func TestEndSessions(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	other := w.billing(t, owner)
	client := adminv1.NewSessionsClient(owner)
	end := func(req *adminv1.EndSessionsRequest) (*adminv1.EndSessionsResponse, error) {
		req.Parent = w.namespace
		return client.EndSessions(t.Context(), req)
	}
	for _, c := range []struct {
		req   *adminv1.EndSessionsRequest
		code  codes.Code
		words []string
	}{
		{&adminv1.EndSessionsRequest{}, codes.InvalidArgument, []string{"one of them is required"}},
		{&adminv1.EndSessionsRequest{Names: []string{w.agent + "/sessions/x"}, User: "ada"}, codes.InvalidArgument, []string{"stand alone"}},
		{&adminv1.EndSessionsRequest{Names: []string{w.agent}}, codes.InvalidArgument, []string{"names[0]", "sessions/{session}"}},
		{&adminv1.EndSessionsRequest{Names: []string{"namespaces/elsewhere/agents/a/sessions/x"}}, codes.InvalidArgument, []string{"names[0]", "not in"}},
		{&adminv1.EndSessionsRequest{Agent: "a/sessions/x"}, codes.InvalidArgument, []string{"agent:"}},
	} {
		_, err := end(c.req)
		wantStatus(t, err, c.code, c.words...)
	}

	ada1, bob, ada2 := w.start(t, owner, "ada").GetName(), w.start(t, owner, "bob").GetName(), other.start(t, owner, "ada").GetName()
	_, err := end(&adminv1.EndSessionsRequest{Names: []string{bob, w.agent + "/sessions/s-never"}})
	wantStatus(t, err, codes.NotFound, "s-never")
	if resp, err := end(&adminv1.EndSessionsRequest{User: "ada", ValidateOnly: true}); err != nil || len(resp.GetNames()) != 2 || resp.GetRevision() != 0 {
		t.Errorf("only validated: %v, %v", resp, err)
	}
	if got := sessions(t, owner, w.namespace+"/agents/-"); len(got) != 3 {
		t.Fatalf("%v are there", got)
	}
	wantEnded := func(resp *adminv1.EndSessionsResponse, err error, want ...string) {
		t.Helper()
		slices.Sort(want)
		if err != nil || !slices.Equal(resp.GetNames(), want) || (resp.GetRevision() > 0) != (len(want) > 0) {
			t.Errorf("ended %v (%v), want %v", resp, err, want)
		}
	}
	resp, err := end(&adminv1.EndSessionsRequest{Agent: "support", User: "ada"})
	wantEnded(resp, err, ada1)
	resp, err = end(&adminv1.EndSessionsRequest{User: "ada"})
	wantEnded(resp, err, ada2)
	resp, err = end(&adminv1.EndSessionsRequest{User: "ada"})
	wantEnded(resp, err)
	resp, err = end(&adminv1.EndSessionsRequest{Names: []string{bob}})
	wantEnded(resp, err, bob)
}

// All sessions of an agent are ended by asking until none is left. An agent takes
// its sessions with it (P6), if they are not too many for one transaction: then
// the refusal says what to do.
func TestManySessions(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	put := func(from, to int) {
		t.Helper()
		_, err := plane.store.Update(t.Context(), store.Meta{Action: "test"}, func(tx *store.Tx) error {
			for i := from; i < to; i++ {
				m := &grantv1.Session{
					Name: fmt.Sprintf("%s/sessions/s-%03d", w.agent, i), Origin: grantv1.Session_ADMIN, ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
				}
				if err := tx.Put(m.GetName(), m); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(0, 100)
	put(100, 126)
	agents := adminv1.NewAgentsClient(owner)
	_, err := agents.DeleteAgent(t.Context(), &adminv1.DeleteAgentRequest{Name: w.agent})
	wantStatus(t, err, codes.FailedPrecondition, "126 sessions", "reevectl session end --agent support -n "+id(t))
	client := adminv1.NewSessionsClient(owner)
	for _, want := range []int{100, 26, 0} {
		resp, err := client.EndSessions(t.Context(), &adminv1.EndSessionsRequest{Parent: w.namespace, Agent: "support"})
		if err != nil || len(resp.GetNames()) != want {
			t.Errorf("ended %d (%v), want %d", len(resp.GetNames()), err, want)
		}
	}
	for i := range 10 {
		put(100*i, 100*i+100)
	}
	_, err = client.StartSession(t.Context(), &adminv1.StartSessionRequest{Parent: w.agent})
	wantStatus(t, err, codes.FailedPrecondition, "1000 sessions", "end some first")
	for ended := 1; ended > 0; {
		resp, err := client.EndSessions(t.Context(), &adminv1.EndSessionsRequest{Parent: w.namespace, Agent: "support"})
		if err != nil {
			t.Fatal(err)
		}
		ended = len(resp.GetNames())
	}
	put(0, 125)
	if _, err := agents.DeleteAgent(t.Context(), &adminv1.DeleteAgentRequest{Name: w.agent}); err != nil {
		t.Fatal(err)
	}
	left, err := plane.store.List(t.Context(), w.agent, "", 10, 0)
	if err != nil || len(left.Resources) != 0 {
		t.Errorf("left of the agent: %v, %v", left.Resources, err)
	}
}

// A grant has an incarnation, which an update keeps and nobody chooses: what was
// counted under it is not counted for another of its name.
func TestGrantUID(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	grants := adminv1.NewGrantsClient(owner)
	g := w.grantOf("refunds")
	g.Uid = "chosen"
	first, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g})
	if err != nil || first.GetUid() == "" || first.GetUid() == "chosen" {
		t.Fatalf("created %v, %v", first, err)
	}
	g.Description = "another"
	second, err := grants.UpdateGrant(t.Context(), &adminv1.UpdateGrantRequest{Grant: g})
	if err != nil || second.GetUid() != first.GetUid() || second.GetDescription() != "another" {
		t.Errorf("updated to %v, %v", second, err)
	}
	g.Description = "a third"
	if _, err := adminv1.NewApplyClient(owner).ApplyResources(t.Context(), &adminv1.ApplyResourcesRequest{
		Resources: []*adminv1.Resource{{Kind: &adminv1.Resource_Grant{Grant: g}}},
	}); err != nil {
		t.Fatal(err)
	}
	if third, err := grants.GetGrant(t.Context(), &adminv1.GetGrantRequest{Name: g.GetName()}); err != nil || third.GetUid() != first.GetUid() {
		t.Errorf("applied: %v, %v", third, err)
	}
	if _, err := grants.DeleteGrant(t.Context(), &adminv1.DeleteGrantRequest{Name: g.GetName()}); err != nil {
		t.Fatal(err)
	}
	anew, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g})
	if err != nil || anew.GetUid() == first.GetUid() || anew.GetUid() == "" {
		t.Errorf("made anew: %v, %v", anew, err)
	}
}
