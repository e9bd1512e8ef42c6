package admin_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// TestApplyIsAllOrNothing: what one refers to may come later in the file, and if
// one cannot be stored none is.
func TestApplyIsAllOrNothing(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	apply := func(grants ...*grantv1.Grant) (*adminv1.ApplyResourcesResponse, error) {
		req := &adminv1.ApplyResourcesRequest{}
		for _, g := range grants {
			req.Resources = append(req.Resources, &adminv1.Resource{Kind: &adminv1.Resource_Grant{Grant: g}})
		}
		return adminv1.NewApplyClient(owner).ApplyResources(t.Context(), req)
	}
	bad := w.grantOf("b")
	bad.Subjects.Agents = []string{"nobody"}
	_, err := apply(w.grantOf("a"), bad)
	wantStatus(t, err, codes.FailedPrecondition, bad.GetName(), `no agent "nobody"`)
	if _, err := plane.store.Get(t.Context(), w.grantOf("a").GetName()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the other grant of the file: %v", err)
	}
	_, err = apply(w.grantOf("a"), w.grantOf("a"))
	wantStatus(t, err, codes.InvalidArgument, "twice")

	first, err := apply(w.grantOf("a"), w.grantOf("b"))
	if err != nil {
		t.Fatal(err)
	}
	changed := w.grantOf("b")
	changed.Condition = ""
	second, err := apply(w.grantOf("a"), changed, w.grantOf("c"))
	if err != nil {
		t.Fatal(err)
	}
	if first.GetRevision() >= second.GetRevision() {
		t.Errorf("revisions %d, %d", first.GetRevision(), second.GetRevision())
	}
	var got []string
	for _, r := range second.GetResults() {
		got = append(got, r.GetAction().String())
	}
	if strings.Join(got, " ") != "UNCHANGED UPDATED CREATED" {
		t.Errorf("results: %v", got)
	}
}

func TestAgentTurns(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	agents := adminv1.NewAgentsClient(owner)
	made, err := agents.GetAgent(t.Context(), &adminv1.GetAgentRequest{Name: w.agent})
	if err != nil || made.GetState() != grantv1.Agent_ACTIVE || made.GetUid() == "" {
		t.Fatalf("made: %v, %v", made, err)
	}
	suspended, err := agents.SuspendAgent(t.Context(), &adminv1.SuspendAgentRequest{Name: w.agent})
	if err != nil || suspended.GetState() != grantv1.Agent_SUSPENDED {
		t.Fatalf("suspended: %v, %v", suspended, err)
	}
	again, err := agents.SuspendAgent(t.Context(), &adminv1.SuspendAgentRequest{Name: w.agent})
	if err != nil || again.GetEtag() != suspended.GetEtag() {
		t.Errorf("suspended again: %v, %v; want it left alone at %s", again, err, suspended.GetEtag())
	}
	_, err = agents.CreateJoinToken(t.Context(), &adminv1.CreateJoinTokenRequest{Agent: w.agent})
	wantStatus(t, err, codes.FailedPrecondition, "SUSPENDED", "resume it first")

	// An update changes what may change, and neither state nor incarnation.
	kept, err := agents.UpdateAgent(t.Context(), &adminv1.UpdateAgentRequest{
		Agent: &grantv1.Agent{Name: w.agent, Owner: "dana", Uid: "another"},
	})
	if err != nil || kept.GetState() != grantv1.Agent_SUSPENDED || kept.GetUid() != made.GetUid() || kept.GetOwner() != "dana" {
		t.Errorf("updated: %v, %v", kept, err)
	}
	_, err = agents.UpdateAgent(t.Context(), &adminv1.UpdateAgentRequest{
		Agent: &grantv1.Agent{Name: w.agent, State: grantv1.Agent_ACTIVE},
	})
	wantStatus(t, err, codes.InvalidArgument, "state", "SUSPENDED", "resume")

	if a, err := agents.ResumeAgent(t.Context(), &adminv1.ResumeAgentRequest{Name: w.agent}); err != nil || a.GetState() != grantv1.Agent_ACTIVE {
		t.Errorf("resumed: %v, %v", a, err)
	}
	if a, err := agents.RetireAgent(t.Context(), &adminv1.RetireAgentRequest{Name: w.agent}); err != nil || a.GetState() != grantv1.Agent_RETIRED {
		t.Errorf("retired: %v, %v", a, err)
	}
	_, err = agents.ResumeAgent(t.Context(), &adminv1.ResumeAgentRequest{Name: w.agent})
	wantStatus(t, err, codes.FailedPrecondition, "retired, which is final")
	_, err = agents.UpdateAgent(t.Context(), &adminv1.UpdateAgentRequest{Agent: &grantv1.Agent{Name: w.agent, Owner: "eve"}})
	wantStatus(t, err, codes.FailedPrecondition, "retired, which is final")

	if _, err := agents.DeleteAgent(t.Context(), &adminv1.DeleteAgentRequest{Name: w.agent}); err != nil {
		t.Fatal(err)
	}
	anew, err := agents.CreateAgent(t.Context(), &adminv1.CreateAgentRequest{Agent: &grantv1.Agent{Name: w.agent, Uid: made.GetUid()}})
	if err != nil || anew.GetUid() == made.GetUid() {
		t.Errorf("made anew: %v, %v; want an incarnation of its own", anew, err)
	}
}

func TestJoinToken(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	token, err := adminv1.NewAgentsClient(owner).CreateJoinToken(t.Context(),
		&adminv1.CreateJoinTokenRequest{Agent: w.agent, Ttl: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if token.GetCaDigest() != plane.authority.Digest() || token.GetSidecarAddress() != "sidecar.test:7444,sidecar-2.test:7444" ||
		token.GetEnrollAddress() != "enroll.test:7445,enroll-2.test:7445" || token.GetTrustDomain() != td.Name() {
		t.Errorf("token: %v", token)
	}
	kept, err := plane.store.Get(t.Context(), store.TokenName(token.GetToken()))
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := kept.Message.(*storev1.JoinToken); !ok || m.GetAgent() != w.agent || m.GetAgentUid() == "" ||
		!m.GetExpireTime().AsTime().Equal(token.GetExpireTime().AsTime()) || strings.Contains(m.String(), token.GetToken()) {
		t.Errorf("kept: %v", kept)
	}
	_, err = adminv1.NewAgentsClient(owner).CreateJoinToken(t.Context(),
		&adminv1.CreateJoinTokenRequest{Agent: w.agent, Ttl: durationpb.New(time.Second)})
	wantStatus(t, err, codes.InvalidArgument, "ttl", "1 minute")
}

func TestExplainCall(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	grants := adminv1.NewGrantsClient(owner)
	explain := func(args string) *adminv1.ExplainCallResponse {
		t.Helper()
		resp, err := grants.ExplainCall(t.Context(), &adminv1.ExplainCallRequest{
			Agent: w.agent, Target: &grantv1.Target{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}, Arguments: []byte(args),
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	// The sidecar is not told of servers that no grant reaches, and answers as if
	// they were there.
	if got := explain(""); got.GetVerdict() != decisionv1.Decision_DENY || got.GetReason() != "not_granted" {
		t.Errorf("without a grant: %v", got)
	}
	g, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: w.grantOf("refunds")})
	if err != nil {
		t.Fatal(err)
	}
	// What was just changed is seen.
	if got := explain(`{"amount": 500}`); got.GetVerdict() != decisionv1.Decision_ALLOW || got.GetGrant() != g.GetName() {
		t.Errorf("with a grant: %v", got)
	}
	got := explain(`{"amount": 501}`)
	if got.GetVerdict() != decisionv1.Decision_DENY || got.GetReason() != "condition_false" || len(got.GetFindings()) != 1 ||
		got.GetFindings()[0].GetGrant() != g.GetName() || got.GetFindings()[0].GetApplies() {
		t.Errorf("beyond the condition: %v", got)
	}
	// What a sidecar cannot read in one way only is denied here too.
	if got, err := grants.ExplainCall(t.Context(), &adminv1.ExplainCallRequest{
		Agent: w.agent, Target: &grantv1.Target{Target: &grantv1.Target_Resource{Resource: "desk/desk://policies/%2e%2e/internal"}},
	}); err != nil || got.GetVerdict() != decisionv1.Decision_DENY || got.GetReason() != "malformed" {
		t.Errorf("of an ambiguous URI: %v, %v", got, err)
	}
	for name, c := range map[string]struct {
		change func(*adminv1.ExplainCallRequest)
		words  string
	}{
		"unknown agent":  {func(r *adminv1.ExplainCallRequest) { r.Agent += "x" }, "there is no"},
		"wildcard":       {func(r *adminv1.ExplainCallRequest) { r.Target.Target = &grantv1.Target_Tool{Tool: "desk/*"} }, "not one thing"},
		"duplicate keys": {func(r *adminv1.ExplainCallRequest) { r.Arguments = []byte(`{"a":1,"a":2}`) }, "arguments"},
		"no object":      {func(r *adminv1.ExplainCallRequest) { r.Arguments = []byte(`[1]`) }, "not a JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			req := &adminv1.ExplainCallRequest{Agent: w.agent, Target: &grantv1.Target{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}}
			c.change(req)
			_, err := grants.ExplainCall(t.Context(), req)
			wantStatus(t, err, codes.InvalidArgument, c.words)
		})
	}
}

// TestAwaitRevision holds P2: the stream says in force only when the sidecar has
// acknowledged or its freshness has run out, and does not end well before.
func TestAwaitRevision(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	sidecars := adminv1.NewSidecarsClient(owner)
	st := rollout.Stream{ID: id(t) + "-stream", Agent: w.agent, Instance: "one"}
	newest, _ := plane.snapshots.Newest()
	if err := plane.rollout.Open(st); err != nil {
		t.Fatal(err)
	}
	plane.rollout.Acknowledge(st.ID, newest.Revision())
	if _, err := plane.rollout.Grant(t.Context(), rollout.Renewal{Stream: st.ID, Agent: st.Agent, Revision: newest.Revision()}); err != nil {
		t.Fatal(err)
	}
	listed, err := sidecars.ListSidecars(t.Context(), &adminv1.ListSidecarsRequest{Parent: w.namespace})
	if err != nil || len(listed.GetSidecars()) != 1 || listed.GetSidecars()[0].GetAgent() != w.agent {
		t.Errorf("listed: %v, %v", listed, err)
	}

	made, err := adminv1.NewGrantsClient(owner).CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: w.grantOf("refunds")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := sidecars.AwaitRevision(ctx, &adminv1.AwaitRevisionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if first.GetInForce() || first.GetPending() != 1 {
		t.Errorf("before the sidecar has acknowledged: %v", first)
	}
	plane.rollout.Acknowledge(st.ID, first.GetRevision())
	last := first
	for !last.GetInForce() {
		if last, err = stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after in force: %v", err)
	}
	if made.GetEtag() == "" || last.GetApplied() < 1 {
		t.Errorf("in force: %v", last)
	}

	future, err := sidecars.AwaitRevision(t.Context(), &adminv1.AwaitRevisionRequest{Revision: 1 << 40})
	if err == nil {
		_, err = future.Recv()
	}
	wantStatus(t, err, codes.InvalidArgument, "not made yet")
}
