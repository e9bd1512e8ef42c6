package admin_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// TestRevokeGrants holds P2 and P7: what is removed and what forbids are one
// change.
func TestRevokeGrants(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	grants := adminv1.NewGrantsClient(owner)
	for _, id := range []string{"one", "two", "three"} {
		if _, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: w.grantOf(id)}); err != nil {
			t.Fatal(err)
		}
	}
	req := &adminv1.RevokeGrantsRequest{
		Parent: w.namespace, Names: []string{w.namespace + "/grants/one", w.namespace + "/grants/two"},
		Subjects: &grantv1.Subjects{Selector: &grantv1.LabelSelector{MatchLabels: map[string]string{"team": "support"}}},
		Reason:   "a leak", ValidateOnly: true,
	}
	if resp, err := grants.RevokeGrants(t.Context(), req); err != nil || resp.GetRevision() != 0 || resp.GetForbid().GetEtag() != "" ||
		w.reason(t, owner) != "granted" {
		t.Errorf("only validated: %v, %v", resp, err)
	}
	req.ValidateOnly = false
	resp, err := grants.RevokeGrants(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	want := &grantv1.Grant{
		Name: resp.GetForbid().GetName(), Description: "a leak", Effect: grantv1.Grant_FORBID, Subjects: req.GetSubjects(),
		Targets: []*grantv1.Target{
			{Target: &grantv1.Target_Tool{Tool: "*"}},
			{Target: &grantv1.Target_Resource{Resource: "*"}},
			{Target: &grantv1.Target_Prompt{Prompt: "*"}},
			{Target: &grantv1.Target_Method{Method: "*"}},
		},
		ExpireTime: timestamppb.New(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)),
	}
	if diff := cmp.Diff(want, resp.GetForbid(), protocmp.Transform(),
		protocmp.IgnoreFields(want, "etag", "create_time", "update_time", "uid")); diff != "" {
		t.Errorf("forbids (-want +got):\n%s", diff)
	}
	if name := strings.TrimPrefix(want.GetName(), w.namespace+"/grants/"); !regexp.MustCompile("^revoked-[0-9a-f]{8}$").MatchString(name) {
		t.Errorf("it is called %s", name)
	}
	read, err := grants.GetGrant(t.Context(), &adminv1.GetGrantRequest{Name: want.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(resp.GetForbid(), read, protocmp.Transform()); diff != "" {
		t.Errorf("what is read is not what was answered (-answered +read):\n%s", diff)
	}
	for id, code := range map[string]codes.Code{"one": codes.NotFound, "two": codes.NotFound, "three": codes.OK} {
		_, err := grants.GetGrant(t.Context(), &adminv1.GetGrantRequest{Name: w.namespace + "/grants/" + id})
		wantStatus(t, err, code)
	}
	if got := w.reason(t, owner); got != "forbidden" {
		t.Errorf("a call is %s", got)
	}
	for _, name := range append(req.GetNames(), want.GetName()) {
		recorded(t, owner, name, adminv1.Grants_RevokeGrants_FullMethodName, "a leak")
	}
	if _, err := grants.DeleteGrant(t.Context(), &adminv1.DeleteGrantRequest{Name: want.GetName()}); err != nil {
		t.Fatal(err)
	}
	if got := w.reason(t, owner); got != "granted" {
		t.Errorf("when the ban is gone, a call is %s", got)
	}
	// By name alone.
	resp, err = grants.RevokeGrants(t.Context(), &adminv1.RevokeGrantsRequest{Parent: w.namespace, Names: []string{w.namespace + "/grants/three"}})
	if err != nil || resp.GetForbid() != nil || w.reason(t, owner) != "not_granted" {
		t.Errorf("by name: %v, %v, and a call is %s", resp, err, w.reason(t, owner))
	}
}

func TestRevokeGrantsRefused(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	if _, err := adminv1.NewGrantsClient(owner).CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: w.grantOf("refunds")}); err != nil {
		t.Fatal(err)
	}
	name := func(id string) string { return w.namespace + "/grants/" + id }
	support := &grantv1.Subjects{Agents: []string{"support"}}
	for what, c := range map[string]struct {
		req   *adminv1.RevokeGrantsRequest
		code  codes.Code
		words []string
	}{
		"nothing":     {&adminv1.RevokeGrantsRequest{}, codes.InvalidArgument, []string{"names, subjects", "grants to remove", "agents to forbid"}},
		"nobody":      {&adminv1.RevokeGrantsRequest{Subjects: &grantv1.Subjects{}}, codes.InvalidArgument, []string{"subjects"}},
		"from nobody": {&adminv1.RevokeGrantsRequest{Names: []string{name("refunds")}, Targets: []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "*"}}}}, codes.InvalidArgument, []string{"subjects"}},
		"missing": {
			&adminv1.RevokeGrantsRequest{Names: []string{name("refunds"), name("refunds-2"), name("refund")}, Subjects: support},
			codes.NotFound,
			[]string{name("refunds-2"), name("refund") + `"`, `did you mean "refunds"?`},
		},
		"twice":     {&adminv1.RevokeGrantsRequest{Names: []string{name("refunds"), name("refunds")}}, codes.InvalidArgument, []string{"names[1]", "twice"}},
		"elsewhere": {&adminv1.RevokeGrantsRequest{Names: []string{"namespaces/other/grants/refunds"}}, codes.InvalidArgument, []string{"names[0]", "is not in"}},
		"no grant":  {&adminv1.RevokeGrantsRequest{Names: []string{w.agent}}, codes.InvalidArgument, []string{"names[0]", "names no grant"}},
		"no agent":  {&adminv1.RevokeGrantsRequest{Names: []string{name("refunds")}, Subjects: &grantv1.Subjects{Agents: []string{"suport"}}}, codes.FailedPrecondition, []string{`did you mean "support"?`}},
		"no target": {&adminv1.RevokeGrantsRequest{Subjects: support, Targets: []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "desk/refnd"}}}}, codes.FailedPrecondition, []string{"desk/refund"}},
	} {
		c.req.Parent = w.namespace
		_, err := adminv1.NewGrantsClient(owner).RevokeGrants(t.Context(), c.req)
		t.Log(what, err)
		wantStatus(t, err, c.code, c.words...)
	}
	_, err := adminv1.NewGrantsClient(owner).RevokeGrants(t.Context(), &adminv1.RevokeGrantsRequest{Parent: "default", Names: []string{"x"}})
	wantStatus(t, err, codes.InvalidArgument, "parent")
	_, err = adminv1.NewGrantsClient(as(t, adminv1.Admin_VIEWER)).RevokeGrants(t.Context(), &adminv1.RevokeGrantsRequest{Parent: w.namespace, Names: []string{name("refunds")}})
	wantStatus(t, err, codes.PermissionDenied)
	if got := w.reason(t, owner); got != "granted" {
		t.Errorf("a call is %s", got)
	}
}

// A grant's own bound is kept, shown and explained.
func TestFreshnessBound(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	grants := adminv1.NewGrantsClient(owner)
	g := w.grantOf("refunds")
	for bound, words := range map[time.Duration]string{time.Second - 1: "from 1 second to 15 minutes", 15*time.Minute + 1: "from 1 second to 15 minutes"} {
		g.FreshnessBound = durationpb.New(bound)
		_, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g})
		wantStatus(t, err, codes.InvalidArgument, "freshness_bound", words)
	}
	g.FreshnessBound, g.Effect = durationpb.New(time.Minute), grantv1.Grant_FORBID
	_, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g})
	wantStatus(t, err, codes.InvalidArgument, g.GetName(), "freshness_bound", "FORBID")

	g.Effect = grantv1.Grant_ALLOW
	if _, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g}); err != nil {
		t.Fatal(err)
	}
	if head, err := plane.store.Head(t.Context()); err != nil || head.LongestBound < time.Minute {
		t.Errorf("the longest bound is %s, %v", head.LongestBound, err)
	}
	changed, err := grants.UpdateGrant(t.Context(), &adminv1.UpdateGrantRequest{
		Grant:      &grantv1.Grant{Name: g.GetName(), FreshnessBound: durationpb.New(2 * time.Minute)},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"freshness_bound"}},
	})
	if err != nil || changed.GetFreshnessBound().AsDuration() != 2*time.Minute || changed.GetCondition() != g.GetCondition() {
		t.Errorf("updated: %v, %v", changed, err)
	}
	if head, err := plane.store.Head(t.Context()); err != nil || head.LongestBound < 2*time.Minute {
		t.Errorf("the longest bound is %s, %v", head.LongestBound, err)
	}
	changed.FreshnessBound = durationpb.New(3 * time.Minute)
	if _, err := adminv1.NewApplyClient(owner).ApplyResources(t.Context(), &adminv1.ApplyResourcesRequest{
		Resources: []*adminv1.Resource{{Kind: &adminv1.Resource_Grant{Grant: changed}}},
	}); err != nil {
		t.Fatal(err)
	}
	if head, err := plane.store.Head(t.Context()); err != nil || head.LongestBound < 3*time.Minute {
		t.Errorf("the longest bound is %s, %v", head.LongestBound, err)
	}
	read, err := grants.GetGrant(t.Context(), &adminv1.GetGrantRequest{Name: g.GetName()})
	if err != nil || read.GetFreshnessBound().AsDuration() != 3*time.Minute {
		t.Errorf("read: %v, %v", read, err)
	}
	resp, err := grants.ExplainCall(t.Context(), &adminv1.ExplainCallRequest{
		Agent: w.agent, Target: &grantv1.Target{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}, Arguments: []byte(`{"amount": 5}`),
	})
	if err != nil || len(resp.GetFindings()) != 1 || resp.GetFindings()[0].GetFreshnessBound().AsDuration() != 3*time.Minute {
		t.Errorf("explained: %v, %v", resp, err)
	}
}
