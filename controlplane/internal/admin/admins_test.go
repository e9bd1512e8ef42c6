package admin_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/reeve-authz/reeve/controlplane/internal/admin"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// TestCallers holds P7: who is not an administrator of today's incarnation, and
// whose role does not cover the method, changes nothing and reads nothing.
func TestCallers(t *testing.T) {
	t.Parallel()
	viewer := as(t, adminv1.Admin_VIEWER)
	stranger := plane.admin(t, plane.address, "admins/"+id(t)+"-stranger", "uid")
	// One of the viewer's name, with a certificate from before it was made anew.
	former := plane.admin(t, plane.address, "admins/"+id(t)+"-viewer", "an earlier uid")
	agent := plane.connect(t, plane.address, func(key *ecdsa.PublicKey) ([][]byte, time.Time, error) {
		return plane.authority.IssueAgent(key, "namespaces/default/agents/support", id(t)+"-uid")
	})
	create := &adminv1.CreateNamespaceRequest{Namespace: &grantv1.Namespace{Name: "namespaces/" + id(t)}}
	for name, c := range map[string]struct {
		conn  *grpc.ClientConn
		reads codes.Code
	}{
		"viewer":   {viewer, codes.OK},
		"stranger": {stranger, codes.PermissionDenied},
		"former":   {former, codes.PermissionDenied},
		"agent":    {agent, codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := adminv1.NewNamespacesClient(c.conn).ListNamespaces(t.Context(), &adminv1.ListNamespacesRequest{})
			wantStatus(t, err, c.reads)
			_, err = adminv1.NewNamespacesClient(c.conn).CreateNamespace(t.Context(), create)
			wantStatus(t, err, codes.PermissionDenied, "owner")
			stream, err := adminv1.NewSidecarsClient(c.conn).AwaitRevision(t.Context(), &adminv1.AwaitRevisionRequest{Revision: 1})
			if err == nil {
				_, err = stream.Recv()
			}
			wantStatus(t, err, c.reads)
		})
	}
	if _, err := plane.store.Get(t.Context(), create.GetNamespace().GetName()); err == nil {
		t.Error("somebody who may not has created a namespace")
	}
}

func TestAdminLives(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	name := "admins/" + id(t) + "@example.com"
	made, err := adminv1.NewAdminsClient(owner).CreateAdmin(t.Context(), &adminv1.CreateAdminRequest{
		Admin: &adminv1.Admin{Name: name, Role: adminv1.Admin_OWNER, Uid: "of my choice"}, Csr: csr, Reason: "joins the team",
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.GetAdmin().GetUid() == "of my choice" {
		t.Error("the caller chose the incarnation")
	}
	_, err = adminv1.NewAdminsClient(owner).CreateAdmin(t.Context(), &adminv1.CreateAdminRequest{
		Admin: &adminv1.Admin{Name: name, Role: adminv1.Admin_OWNER}, Csr: csr,
	})
	wantStatus(t, err, codes.AlreadyExists, "revoke it first")
	csr[len(csr)-1] ^= 1
	_, err = adminv1.NewAdminsClient(owner).CreateAdmin(t.Context(), &adminv1.CreateAdminRequest{
		Admin: &adminv1.Admin{Name: name + ".au", Role: adminv1.Admin_OWNER}, Csr: csr,
	})
	wantStatus(t, err, codes.InvalidArgument, "csr")
	csr[len(csr)-1] ^= 1

	// The certificate works at once.
	self := plane.connectWith(t, plane.address, made.GetCertificates(), key)
	me, err := adminv1.NewAdminsClient(self).GetSelf(t.Context(), &adminv1.GetSelfRequest{})
	if err != nil || me.GetName() != name || me.GetRole() != adminv1.Admin_OWNER {
		t.Errorf("self: %v, %v", me, err)
	}
	renewed, err := adminv1.NewAdminsClient(self).RenewAdmin(t.Context(), &adminv1.RenewAdminRequest{Csr: csr})
	if err != nil {
		t.Fatal(err)
	}
	again := plane.connectWith(t, plane.address, renewed.GetCertificates(), key)
	if _, err := adminv1.NewAdminsClient(again).GetSelf(t.Context(), &adminv1.GetSelfRequest{}); err != nil {
		t.Error(err)
	}

	if _, err := adminv1.NewAdminsClient(owner).RevokeAdmin(t.Context(), &adminv1.RevokeAdminRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []*grpc.ClientConn{self, again} {
		_, err = adminv1.NewAdminsClient(conn).ListAdmins(t.Context(), &adminv1.ListAdminsRequest{})
		wantStatus(t, err, codes.PermissionDenied, "not an administrator")
	}
	_, err = adminv1.NewAdminsClient(owner).RevokeAdmin(t.Context(), &adminv1.RevokeAdminRequest{Name: name})
	wantStatus(t, err, codes.NotFound, name)
}

// TestRoleIsReadInTheTransaction holds P7: a change by an administrator who was
// revoked while the change was under way is not made, although the guard still
// knew it.
func TestRoleIsReadInTheTransaction(t *testing.T) {
	t.Parallel()
	before, _ := plane.snapshots.Newest()
	name, uid := "admins/"+id(t), "uid"
	// The guard of this administration is always behind: it knows one whom the
	// store does not.
	address, stop, err := plane.serve(func() (admin.View, <-chan struct{}) {
		return behind{before, &adminv1.Admin{Name: name, Uid: uid, Role: adminv1.Admin_OWNER}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	conn := plane.admin(t, address, name, uid)
	_, err = adminv1.NewNamespacesClient(conn).ListNamespaces(t.Context(), &adminv1.ListNamespacesRequest{})
	wantStatus(t, err, codes.OK)
	_, err = adminv1.NewNamespacesClient(conn).CreateNamespace(t.Context(),
		&adminv1.CreateNamespaceRequest{Namespace: &grantv1.Namespace{Name: "namespaces/" + id(t)}})
	wantStatus(t, err, codes.PermissionDenied, "any more")
	if _, err := plane.store.Get(t.Context(), "namespaces/"+id(t)); err == nil {
		t.Error("the namespace is there")
	}
}

// behind is a view with an administrator more.
type behind struct {
	admin.View
	known *adminv1.Admin
}

func (b behind) Admin(string) *adminv1.Admin { return b.known }

func TestNoCertificateNoAnswer(t *testing.T) {
	t.Parallel()
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	conn, err := grpc.NewClient(plane.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = adminv1.NewAdminsClient(conn).GetSelf(t.Context(), &adminv1.GetSelfRequest{})
	wantStatus(t, err, codes.Unavailable)
}

func TestChangesAreRecorded(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	made, err := adminv1.NewNamespacesClient(owner).CreateNamespace(t.Context(), &adminv1.CreateNamespaceRequest{
		Namespace: &grantv1.Namespace{Name: "namespaces/" + id(t)}, Reason: "because",
	})
	if err != nil {
		t.Fatal(err)
	}
	for token := ""; ; {
		page, err := adminv1.NewChangesClient(owner).ListChanges(t.Context(), &adminv1.ListChangesRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.GetChanges() {
			if len(c.GetEntries()) != 1 || c.GetEntries()[0].GetName() != made.GetName() {
				continue
			}
			if c.GetActor() != "spiffe://example.test/admin/"+id(t)+"-owner" || c.GetReason() != "because" ||
				c.GetAction() != adminv1.Namespaces_CreateNamespace_FullMethodName {
				t.Errorf("recorded: %v", c)
			}
			return
		}
		if token = page.GetNextPageToken(); token == "" {
			t.Fatal("the change is not among the changes")
		}
	}
}

func TestLastOwnerStays(t *testing.T) {
	t.Parallel()
	h, err := build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	address, stop, err := h.serve(h.newest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		stop()
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}()
	h.appoint(t, "admins/viewer", "uid", adminv1.Admin_VIEWER)
	h.appoint(t, "admins/first", "uid", adminv1.Admin_OWNER)
	first := adminv1.NewAdminsClient(h.admin(t, address, "admins/first", "uid"))
	_, err = first.RevokeAdmin(t.Context(), &adminv1.RevokeAdminRequest{Name: "admins/first"})
	wantStatus(t, err, codes.FailedPrecondition, "last owner", "create another")
	h.appoint(t, "admins/second", "uid", adminv1.Admin_OWNER)
	if _, err = first.RevokeAdmin(t.Context(), &adminv1.RevokeAdminRequest{Name: "admins/first"}); err != nil {
		t.Error(err)
	}
}
