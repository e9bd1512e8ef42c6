package controlplane_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

const supportAgent = "namespaces/default/agents/support"

// enrolled returns what a sidecar of the agent has once it is enrolled, and where
// it goes with it.
func enrolled(ctx context.Context, t *testing.T, owner *grpc.ClientConn) (*identity.Source, string) {
	t.Helper()
	token, err := adminv1.NewAgentsClient(owner).CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{Agent: supportAgent})
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := identity.PinnedTLS(token.GetCaDigest())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(token.GetEnrollAddress(), grpc.WithTransportCredentials(credentials.NewTLS(pinned)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := enrollv1.NewEnrollmentClient(conn).Attest(ctx, &enrollv1.AttestRequest{JoinToken: token.GetToken(), Csr: csr})
	if err != nil {
		t.Fatal(err)
	}
	svid, bundle, err := identity.ParseSVID(resp.GetSvid().GetCertificates(), resp.GetSvid().GetBundle(), key)
	if err != nil {
		t.Fatal(err)
	}
	source := identity.NewSource()
	source.Set(svid, bundle)
	return source, token.GetSidecarAddress()
}

// Two sidecars of an agent, each by its own key, at the door that they stream at:
// the session that one has opened is not the other's to claim or to close, and an
// administrator ends it. No administrator is let in at that door.
func TestClaimsAtTheDoor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dir := t.TempDir()
	start(t, dir)
	owner, _ := bootstrap(t, dir)
	if _, err := self(t, owner); err != nil {
		t.Fatal(err)
	}
	_, err := adminv1.NewApplyClient(owner).ApplyResources(ctx, &adminv1.ApplyResourcesRequest{Resources: []*adminv1.Resource{
		{Kind: &adminv1.Resource_Namespace{Namespace: &grantv1.Namespace{Name: "namespaces/default"}}},
		{Kind: &adminv1.Resource_Agent{Agent: &grantv1.Agent{Name: supportAgent}}},
	}})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		t.Fatal(err)
	}
	var clients [2]grantv1.ClaimsClient
	var peers [2]identity.Peer
	for i := range clients {
		source, address := enrolled(ctx, t, owner)
		if peers[i], err = source.Peer(); err != nil {
			t.Fatal(err)
		}
		svid, err := source.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientTLS(source, svid.ID.TrustDomain()))))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		clients[i] = grantv1.NewClaimsClient(conn)
	}
	opened, err := clients[0].OpenSession(ctx, &grantv1.OpenSessionRequest{Purpose: "triage", RequestId: "0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	session := opened.GetSession()
	if session.GetActor() != peers[0].ID.String() || !strings.HasPrefix(session.GetName(), supportAgent+"/sessions/s-") {
		t.Errorf("opened %v", session)
	}
	_, err = clients[1].ClaimSession(ctx, &grantv1.ClaimSessionRequest{Name: session.GetName()})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("claimed by the other: %v", err)
	}
	_, err = clients[1].CloseSession(ctx, &grantv1.CloseSessionRequest{Name: session.GetName()})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("closed by the other: %v", err)
	}
	again, err := clients[0].ClaimSession(ctx, &grantv1.ClaimSessionRequest{Name: session.GetName()})
	if err != nil || again.GetRevision() != opened.GetRevision() {
		t.Errorf("claimed again at %d (%v), want %d", again.GetRevision(), err, opened.GetRevision())
	}
	ended, err := adminv1.NewSessionsClient(owner).EndSessions(ctx, &adminv1.EndSessionsRequest{Parent: "namespaces/default", Agent: "support"})
	if err != nil || len(ended.GetNames()) != 1 || ended.GetRevision() <= opened.GetRevision() {
		t.Errorf("ended %v, %v", ended, err)
	}
	_, err = clients[0].ClaimSession(ctx, &grantv1.ClaimSessionRequest{Name: session.GetName()})
	if status.Code(err) != codes.NotFound {
		t.Errorf("claimed though it has ended: %v", err)
	}
	if _, err := adminv1.NewAgentsClient(owner).SuspendAgent(ctx, &adminv1.SuspendAgentRequest{Name: supportAgent}); err != nil {
		t.Fatal(err)
	}
	_, err = clients[0].OpenSession(ctx, &grantv1.OpenSessionRequest{RequestId: "fedcba9876543210"})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a suspended agent's: %v", err)
	}
	if _, err := grantv1.NewClaimsClient(owner).ClaimSession(ctx, &grantv1.ClaimSessionRequest{Name: session.GetName()}); status.Code(err) != codes.Unimplemented {
		t.Errorf("at the administrators' door: %v", err)
	}
}
