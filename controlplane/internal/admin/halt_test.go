package admin_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/reeve-authz/reeve/controlplane/internal/admin"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// reason is why a call of w's agent would be denied; "granted" if it is not.
func (w world) reason(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	resp, err := adminv1.NewGrantsClient(conn).ExplainCall(t.Context(), &adminv1.ExplainCallRequest{
		Agent: w.agent, Target: &grantv1.Target{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}, Arguments: []byte(`{"amount": 5}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetReason()
}

func states(t *testing.T, fleet adminv1.FleetClient) []string {
	t.Helper()
	resp, err := fleet.ListFleetStates(t.Context(), &adminv1.ListFleetStatesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range resp.GetStates() {
		names = append(names, s.GetName())
	}
	return names
}

// TestHalt holds P7: a halt is a change like any other, and the first stays what
// it is.
func TestHalt(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	fleet := adminv1.NewFleetClient(owner)
	name := w.namespace + "/fleet"
	if _, err := adminv1.NewGrantsClient(owner).CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: w.grantOf("refunds")}); err != nil {
		t.Fatal(err)
	}

	would, err := fleet.HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: name, Reason: "fire", ValidateOnly: true})
	if err != nil || would.GetState() != grantv1.FleetState_HALTED || slices.Contains(states(t, fleet), name) {
		t.Errorf("only validated: %v, %v", would, err)
	}
	_, err = fleet.ResumeFleet(t.Context(), &adminv1.ResumeFleetRequest{Name: name})
	wantStatus(t, err, codes.NotFound, name, "not halted")

	var header metadata.MD
	first, err := fleet.HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: name, Reason: "fire"}, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	want := &grantv1.FleetState{
		Name: name, State: grantv1.FleetState_HALTED, Reason: "fire", Actor: "spiffe://example.test/admin/" + id(t) + "-owner",
	}
	if diff := cmp.Diff(want, first, protocmp.Transform(), protocmp.IgnoreFields(want, "etag", "create_time")); diff != "" {
		t.Errorf("halted (-want +got):\n%s", diff)
	}
	if first.GetCreateTime() == nil || !slices.Equal(header.Get(admin.RevisionHeader), []string{first.GetEtag()}) {
		t.Errorf("halted: %v, revision %v", first, header.Get(admin.RevisionHeader))
	}
	if got := w.reason(t, owner); got != "halted" {
		t.Errorf("while it is halted, a call is %s", got)
	}
	if got := states(t, fleet); !slices.Contains(got, name) {
		t.Errorf("halted are %v", got)
	}

	other := plane.admin(t, plane.address, "admins/"+id(t)+"-other", "other")
	plane.appoint(t, "admins/"+id(t)+"-other", "other", adminv1.Admin_OWNER)
	again := adminv1.NewFleetClient(other)
	for reason, want := range map[string]string{"": "fire", "fire": "fire"} {
		same, err := again.HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: name, Reason: reason})
		if err != nil || !proto.Equal(same, first) {
			t.Errorf("halted again because of %q: %v, %v; want reason %s and nothing else changed", reason, same, err, want)
		}
	}
	more, err := again.HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: name, Reason: "and flood"})
	if err != nil || more.GetReason() != "and flood" || more.GetActor() != first.GetActor() ||
		!proto.Equal(more.GetCreateTime(), first.GetCreateTime()) || more.GetEtag() == first.GetEtag() {
		t.Errorf("halted once more: %v, %v", more, err)
	}

	_, err = adminv1.NewNamespacesClient(owner).DeleteNamespace(t.Context(), &adminv1.DeleteNamespaceRequest{Name: w.namespace})
	wantStatus(t, err, codes.FailedPrecondition, "reevectl fleet resume -n "+strings.TrimPrefix(w.namespace, "namespaces/")+" first")

	if _, err := fleet.ResumeFleet(t.Context(), &adminv1.ResumeFleetRequest{Name: name, ValidateOnly: true}); err != nil {
		t.Error(err)
	}
	if got := w.reason(t, owner); got != "halted" {
		t.Errorf("after validating that it could be resumed, a call is %s", got)
	}
	resumed, err := fleet.ResumeFleet(t.Context(), &adminv1.ResumeFleetRequest{Name: name, Reason: "out"})
	if err != nil || resumed.GetRevision() == 0 {
		t.Errorf("resumed: %v, %v", resumed, err)
	}
	if got := w.reason(t, owner); got != "granted" {
		t.Errorf("after it was resumed, a call is %s", got)
	}
	recorded(t, owner, name, adminv1.Fleet_HaltFleet_FullMethodName, "fire")
	recorded(t, owner, name, adminv1.Fleet_ResumeFleet_FullMethodName, "out")
}

// recorded fails unless there is a change of a resource by an action for a
// reason.
func recorded(t *testing.T, conn *grpc.ClientConn, name, action, reason string) {
	t.Helper()
	for token := ""; ; {
		page, err := adminv1.NewChangesClient(conn).ListChanges(t.Context(), &adminv1.ListChangesRequest{PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.GetChanges() {
			touches := func(e *adminv1.Change_Entry) bool { return e.GetName() == name }
			if c.GetAction() == action && c.GetReason() == reason && slices.ContainsFunc(c.GetEntries(), touches) {
				return
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			t.Errorf("no change of %s by %s for %q", name, action, reason)
			return
		}
	}
}

//nolint:paralleltest // it stops what the other tests share
func TestHaltEverything(t *testing.T) {
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	fleet := adminv1.NewFleetClient(owner)
	for _, name := range []string{w.namespace + "/fleet", "fleet"} {
		if _, err := fleet.HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := states(t, fleet), []string{"fleet", w.namespace + "/fleet"}; !slices.Equal(got, want) {
		t.Errorf("halted are %v, want %v", got, want)
	}
	for _, c := range []struct{ resume, reason string }{{w.namespace + "/fleet", "halted"}, {"fleet", "not_granted"}} {
		if _, err := fleet.ResumeFleet(t.Context(), &adminv1.ResumeFleetRequest{Name: c.resume}); err != nil {
			t.Fatal(err)
		}
		if got := w.reason(t, owner); got != c.reason {
			t.Errorf("%s was resumed, and a call is %s, want %s", c.resume, got, c.reason)
		}
	}
}

func TestHaltRefused(t *testing.T) {
	t.Parallel()
	owner, viewer := as(t, adminv1.Admin_OWNER), as(t, adminv1.Admin_VIEWER)
	w := newWorld(t, owner)
	for _, c := range []struct {
		conn *grpc.ClientConn
		name string
		code codes.Code
		word string
	}{
		{viewer, w.namespace + "/fleet", codes.PermissionDenied, "ask an owner"},
		{owner, w.namespace, codes.InvalidArgument, "names no fleet"},
		{owner, "fleets", codes.InvalidArgument, "names no fleet"},
		{owner, w.namespace + "x/fleet", codes.NotFound, "did you mean"},
		{owner, "", codes.InvalidArgument, "name is required"},
	} {
		_, err := adminv1.NewFleetClient(c.conn).HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: c.name})
		wantStatus(t, err, c.code, c.word)
		_, err = adminv1.NewFleetClient(c.conn).ResumeFleet(t.Context(), &adminv1.ResumeFleetRequest{Name: c.name})
		wantStatus(t, err, c.code, c.word)
	}
	if slices.Contains(states(t, adminv1.NewFleetClient(viewer)), w.namespace+"/fleet") {
		t.Error("it is halted")
	}
}
