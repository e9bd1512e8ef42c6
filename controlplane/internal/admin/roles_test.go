package admin_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// within connects to the plane as a new administrator who has a role in one
// namespace only.
func within(t *testing.T, role adminv1.Admin_Role, namespace string) *grpc.ClientConn {
	t.Helper()
	word := strings.ToLower(role.String())
	a := &adminv1.Admin{
		Name: "admins/" + id(t) + "-bound-" + word, Uid: id(t) + "-bound-" + word,
		Bindings: []*adminv1.Admin_Binding{{Namespace: namespace, Role: role}},
	}
	plane.put(t, a)
	return plane.admin(t, plane.address, a.GetName(), a.GetUid())
}

// otherWorld makes a second world for a test.
func otherWorld(t *testing.T, owner *grpc.ClientConn) string {
	t.Helper()
	ns := "namespaces/" + id(t) + "-other"
	if _, err := adminv1.NewNamespacesClient(owner).CreateNamespace(t.Context(), &adminv1.CreateNamespaceRequest{Namespace: &grantv1.Namespace{Name: ns}}); err != nil {
		t.Fatal(err)
	}
	return ns
}

func file(resources ...proto.Message) *adminv1.ApplyResourcesRequest {
	req := &adminv1.ApplyResourcesRequest{}
	for _, m := range resources {
		r := &adminv1.Resource{}
		switch m := m.(type) {
		case *grantv1.Namespace:
			r.Kind = &adminv1.Resource_Namespace{Namespace: m}
		case *grantv1.Agent:
			r.Kind = &adminv1.Resource_Agent{Agent: m}
		case *grantv1.Server:
			r.Kind = &adminv1.Resource_Server{Server: m}
		case *grantv1.Tool:
			r.Kind = &adminv1.Resource_Tool{Tool: m}
		case *grantv1.Grant:
			r.Kind = &adminv1.Resource_Grant{Grant: m}
		}
		req.Resources = append(req.Resources, r)
	}
	return req
}

// TestFilesKeepToNamespaces holds P7: an author of one namespace writes and removes
// nothing in another through a file, and nothing of that file is done.
func TestFilesKeepToNamespaces(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	other := otherWorld(t, owner)
	author := adminv1.NewApplyClient(within(t, adminv1.Admin_AUTHOR, w.namespace))

	mine := &grantv1.Agent{Name: w.namespace + "/agents/mine"}
	_, err := author.ApplyResources(t.Context(), file(mine, &grantv1.Agent{Name: other + "/agents/theirs"}))
	wantStatus(t, err, codes.PermissionDenied, "ApplyResources in "+other, "author, approver or owner there or everywhere")
	if _, err := plane.store.Get(t.Context(), mine.GetName()); err == nil {
		t.Error("half of a refused file was done")
	}
	// The namespace itself is an owner's, and may be in the file as it is.
	_, err = author.ApplyResources(t.Context(), file(mine, &grantv1.Namespace{Name: w.namespace, Description: "mine now"}))
	wantStatus(t, err, codes.PermissionDenied, "namespace", "UpdateNamespace", "owner")
	if _, err := plane.store.Get(t.Context(), mine.GetName()); err == nil {
		t.Error("half of a refused file was done")
	}
	if _, err := author.ApplyResources(t.Context(), file(mine, &grantv1.Namespace{Name: w.namespace})); err != nil {
		t.Error(err)
	}
	if _, err := adminv1.NewApplyClient(owner).ApplyResources(t.Context(), file(&grantv1.Agent{Name: other + "/agents/theirs"})); err != nil {
		t.Fatal(err)
	}
	_, err = author.DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{Names: []string{mine.GetName(), other + "/agents/theirs"}})
	wantStatus(t, err, codes.PermissionDenied, other)
	if _, err := plane.store.Get(t.Context(), mine.GetName()); err != nil {
		t.Error("half of a refused file was done")
	}
	// A name that escapes its namespace is nobody's.
	_, err = author.ApplyResources(t.Context(), file(&grantv1.Agent{Name: w.namespace + "/../" + other + "/agents/x"}))
	if err == nil {
		t.Error("a name that is none was taken")
	}
}

// TestListsShowWhatMayBeSeen holds P7: what is listed across namespaces is what
// the caller may see.
func TestListsShowWhatMayBeSeen(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	other := otherWorld(t, owner)
	halt := adminv1.NewFleetClient(owner)
	for _, ns := range []string{w.namespace, other} {
		if _, err := halt.HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: ns + "/fleet"}); err != nil {
			t.Fatal(err)
		}
	}
	viewer := within(t, adminv1.Admin_VIEWER, w.namespace)
	spaces, err := adminv1.NewNamespacesClient(viewer).ListNamespaces(t.Context(), &adminv1.ListNamespacesRequest{})
	if err != nil || len(spaces.GetNamespaces()) != 1 || spaces.GetNamespaces()[0].GetName() != w.namespace {
		t.Errorf("namespaces: %v, %v", spaces, err)
	}
	states, err := adminv1.NewFleetClient(viewer).ListFleetStates(t.Context(), &adminv1.ListFleetStatesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states.GetStates() {
		if s.GetName() != "fleet" && s.GetName() != w.namespace+"/fleet" {
			t.Errorf("is shown %s", s.GetName())
		}
	}
	_, err = adminv1.NewAgentsClient(viewer).ListAgents(t.Context(), &adminv1.ListAgentsRequest{Parent: other})
	wantStatus(t, err, codes.PermissionDenied, "ListAgents in "+other)
	_, err = adminv1.NewSidecarsClient(viewer).ListSidecars(t.Context(), &adminv1.ListSidecarsRequest{Parent: other})
	wantStatus(t, err, codes.PermissionDenied, other)
	if _, err = adminv1.NewSidecarsClient(viewer).ListSidecars(t.Context(), &adminv1.ListSidecarsRequest{Parent: "namespaces/-"}); err != nil {
		t.Error(err)
	}
	_, err = adminv1.NewAdminsClient(viewer).ListAdmins(t.Context(), &adminv1.ListAdminsRequest{})
	wantStatus(t, err, codes.PermissionDenied, "auditor or owner everywhere")
	_, err = adminv1.NewChangesClient(viewer).ListChanges(t.Context(), &adminv1.ListChangesRequest{})
	wantStatus(t, err, codes.PermissionDenied, "auditor or owner everywhere")
	_, err = halt.ResumeFleet(t.Context(), &adminv1.ResumeFleetRequest{Name: other + "/fleet"})
	if err != nil {
		t.Error(err)
	}
}

// TestOwnerOfOneNamespace holds P7: it does everything in it, and nothing outside.
func TestOwnerOfOneNamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, as(t, adminv1.Admin_OWNER))
	conn := within(t, adminv1.Admin_OWNER, w.namespace)
	fleet := adminv1.NewFleetClient(conn)
	if _, err := fleet.HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: w.namespace + "/fleet"}); err != nil {
		t.Error(err)
	}
	if _, err := fleet.ResumeFleet(t.Context(), &adminv1.ResumeFleetRequest{Name: w.namespace + "/fleet"}); err != nil {
		t.Error(err)
	}
	_, err := fleet.HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: "fleet"})
	wantStatus(t, err, codes.PermissionDenied, "owner everywhere")
	_, err = fleet.ResumeFleet(t.Context(), &adminv1.ResumeFleetRequest{Name: "fleet"})
	wantStatus(t, err, codes.PermissionDenied, "owner everywhere")
	admins := adminv1.NewAdminsClient(conn)
	_, err = admins.UpdateAdmin(t.Context(), &adminv1.UpdateAdminRequest{Admin: &adminv1.Admin{
		Name: "admins/" + id(t) + "-bound-owner", Role: adminv1.Admin_OWNER,
	}})
	wantStatus(t, err, codes.PermissionDenied, "UpdateAdmin", "owner everywhere")
	_, err = admins.RevokeAdmin(t.Context(), &adminv1.RevokeAdminRequest{Name: "admins/" + id(t) + "-owner"})
	wantStatus(t, err, codes.PermissionDenied, "owner everywhere")
	_, err = adminv1.NewNamespacesClient(conn).DeleteNamespace(t.Context(), &adminv1.DeleteNamespaceRequest{Name: w.namespace})
	wantStatus(t, err, codes.PermissionDenied, "owner everywhere")
	_, err = adminv1.NewNamespacesClient(conn).UpdateNamespace(t.Context(), &adminv1.UpdateNamespaceRequest{Namespace: &grantv1.Namespace{Name: w.namespace, Description: "ours"}})
	if err != nil {
		t.Error(err)
	}
}

// TestStoppingNeedsNobodysLeave holds P7: whoever does more than read may take
// authority away, and who may no more than that gives none back.
func TestStoppingNeedsNobodysLeave(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	for _, role := range []adminv1.Admin_Role{adminv1.Admin_OPERATOR, adminv1.Admin_AUTHOR, adminv1.Admin_APPROVER} {
		conn := within(t, role, w.namespace)
		if _, err := adminv1.NewAgentsClient(conn).SuspendAgent(t.Context(), &adminv1.SuspendAgentRequest{Name: w.agent}); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		forbid := &adminv1.RevokeGrantsRequest{Parent: w.namespace, Subjects: &grantv1.Subjects{Agents: []string{"support"}}}
		revoked, err := adminv1.NewGrantsClient(conn).RevokeGrants(t.Context(), forbid)
		if err != nil {
			t.Errorf("%s: %v", role, err)
			continue
		}
		if _, err := adminv1.NewFleetClient(conn).HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: w.namespace + "/fleet"}); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		_, err = adminv1.NewFleetClient(conn).ResumeFleet(t.Context(), &adminv1.ResumeFleetRequest{Name: w.namespace + "/fleet"})
		wantStatus(t, err, codes.PermissionDenied, "owner there or everywhere")
		// What forbids is not removed by revoking it.
		_, err = adminv1.NewGrantsClient(conn).RevokeGrants(t.Context(), &adminv1.RevokeGrantsRequest{Parent: w.namespace, Names: []string{revoked.GetForbid().GetName()}})
		if role == adminv1.Admin_AUTHOR {
			if err != nil {
				t.Errorf("%s: %v", role, err)
			}
		} else {
			wantStatus(t, err, codes.PermissionDenied, "remove a grant that forbids", "author or owner")
		}
		_, err = adminv1.NewAgentsClient(conn).ResumeAgent(t.Context(), &adminv1.ResumeAgentRequest{Name: w.agent})
		if role == adminv1.Admin_APPROVER {
			if err != nil {
				t.Errorf("%s: %v", role, err)
			}
		} else {
			wantStatus(t, err, codes.PermissionDenied, "approver or owner")
		}
		_, err = adminv1.NewAgentsClient(conn).CreateJoinToken(t.Context(), &adminv1.CreateJoinTokenRequest{Agent: w.agent})
		if role != adminv1.Admin_OPERATOR {
			wantStatus(t, err, codes.PermissionDenied, "operator or owner")
		}
	}
}

// TestUpdateAdmin holds P7: a role that is given or taken away counts from the next
// call on, and the last owner stays one.
func TestUpdateAdmin(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	owner := adminv1.NewAdminsClient(conn)
	name := "admins/" + id(t) + "-bound-viewer"
	bee := within(t, adminv1.Admin_VIEWER, w.namespace)
	create := func() error {
		_, err := adminv1.NewAgentsClient(bee).CreateAgent(t.Context(), &adminv1.CreateAgentRequest{Agent: &grantv1.Agent{Name: w.namespace + "/agents/bee"}, ValidateOnly: true})
		return err
	}
	wantStatus(t, create(), codes.PermissionDenied, "author or owner there")
	both := []*adminv1.Admin_Binding{
		{Namespace: w.namespace, Role: adminv1.Admin_VIEWER}, {Namespace: w.namespace, Role: adminv1.Admin_AUTHOR},
	}
	updated, err := owner.UpdateAdmin(t.Context(), &adminv1.UpdateAdminRequest{Admin: &adminv1.Admin{Name: name, Bindings: both}})
	if err != nil || updated.GetUid() == "" || updated.GetEtag() == "" {
		t.Fatalf("%v, %v", updated, err)
	}
	if err := create(); err != nil {
		t.Error(err)
	}
	_, err = owner.UpdateAdmin(t.Context(), &adminv1.UpdateAdminRequest{Admin: &adminv1.Admin{Name: name, Role: adminv1.Admin_OWNER, Etag: "1"}})
	wantStatus(t, err, codes.Aborted, "etag")
	for words, a := range map[string]*adminv1.Admin{
		"role, bindings: one of them is required": {Name: name},
		"bindings[1]: it is there twice":          {Name: name, Bindings: []*adminv1.Admin_Binding{both[0], both[0]}},
		"role must be one of":                     {Name: name, Bindings: []*adminv1.Admin_Binding{{Namespace: w.namespace}}},
	} {
		_, err = owner.UpdateAdmin(t.Context(), &adminv1.UpdateAdminRequest{Admin: a})
		wantStatus(t, err, codes.InvalidArgument, words)
	}
	_, err = owner.UpdateAdmin(t.Context(), &adminv1.UpdateAdminRequest{Admin: &adminv1.Admin{
		Name: name, Bindings: []*adminv1.Admin_Binding{{Namespace: w.namespace + "x", Role: adminv1.Admin_VIEWER}},
	}})
	wantStatus(t, err, codes.FailedPrecondition, "bindings[0].namespace", "did you mean")
	_, err = owner.UpdateAdmin(t.Context(), &adminv1.UpdateAdminRequest{Admin: &adminv1.Admin{Name: name + "-nobody", Role: adminv1.Admin_VIEWER}})
	wantStatus(t, err, codes.NotFound, "nobody")

	// Nobody inherits a role from a namespace that was.
	_, err = adminv1.NewApplyClient(conn).DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{
		Names: []string{w.namespace, w.agent, w.server, w.tool},
	})
	wantStatus(t, err, codes.FailedPrecondition, name, "has a role in it")
	if _, err := owner.UpdateAdmin(t.Context(), &adminv1.UpdateAdminRequest{Admin: &adminv1.Admin{Name: name, Role: adminv1.Admin_VIEWER}}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, create(), codes.PermissionDenied, "author")
	if _, err := adminv1.NewApplyClient(conn).DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{
		Names: []string{w.namespace, w.agent, w.server, w.tool},
	}); err != nil {
		t.Error(err)
	}
}

// alone returns a house with a store of its own, and its owner's connection.
func alone(t *testing.T, owner string) (*house, *grpc.ClientConn) {
	t.Helper()
	h, err := build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.close() })
	address, stop, err := h.serve(h.newest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	h.appoint(t, owner, "u1", adminv1.Admin_OWNER)
	return h, h.admin(t, address, owner, "u1")
}

// TestLastOwnerKeepsItsRole holds P7 in a store of its own.
func TestLastOwnerKeepsItsRole(t *testing.T) {
	t.Parallel()
	h, conn := alone(t, "admins/only")
	admins := adminv1.NewAdminsClient(conn)
	_, err := admins.UpdateAdmin(t.Context(), &adminv1.UpdateAdminRequest{Admin: &adminv1.Admin{Name: "admins/only", Role: adminv1.Admin_AUTHOR}})
	wantStatus(t, err, codes.FailedPrecondition, "last owner")
	_, err = admins.RevokeAdmin(t.Context(), &adminv1.RevokeAdminRequest{Name: "admins/only"})
	wantStatus(t, err, codes.FailedPrecondition, "last owner")
	h.appoint(t, "admins/other", "u2", adminv1.Admin_OWNER)
	if _, err = admins.UpdateAdmin(t.Context(), &adminv1.UpdateAdminRequest{Admin: &adminv1.Admin{Name: "admins/only", Role: adminv1.Admin_AUTHOR}}); err != nil {
		t.Error(err)
	}
	_, err = admins.ListAdmins(t.Context(), &adminv1.ListAdminsRequest{})
	wantStatus(t, err, codes.PermissionDenied, "auditor or owner")
}
