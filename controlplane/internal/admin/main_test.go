package admin_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/admin"
	"github.com/reeve-authz/reeve/controlplane/internal/ca"
	"github.com/reeve-authz/reeve/controlplane/internal/replicas"
	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

var td = spiffeid.RequireTrustDomainFromString("example.test")

// bound is the freshness bound of the plane.
const bound = 2 * time.Second

// house is a store with all that administration is built from. Certificates and
// connections are real; everyone with a certificate of the trust domain gets as
// far as the guard.
type house struct {
	store     *store.Store
	authority *ca.Authority
	source    *identity.Source
	snapshots *snapshot.Snapshots
	rollout   *rollout.Rollout
	replicas  *replicas.Replicas
	running   sync.WaitGroup
	end       context.CancelFunc
}

// plane is the house that the tests share, each in namespaces of its own, and
// where it is administered.
var plane struct {
	*house
	address string
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if plane.house, err = build(context.Background(), dir); err != nil {
		return 0, err
	}
	address, stop, err := plane.serve(plane.newest)
	if err != nil {
		return 0, err
	}
	plane.address = address
	code = m.Run()
	stop()
	if err := plane.close(); err != nil {
		return 0, err
	}
	return code, goleak.Find()
}

// build builds a house over an etcd of its own.
func build(ctx context.Context, dir string) (*house, error) {
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(ctx)
	h := &house{
		source: identity.NewSource(), snapshots: snapshot.New(log), end: cancel,
		rollout: rollout.New(rollout.Config{Bound: bound}),
	}
	var err error
	if h.store, err = store.Open(ctx, store.Config{Dir: filepath.Join(dir, "etcd")}, log); err != nil {
		cancel()
		return nil, err
	}
	cfg := ca.Config{TrustDomain: td, KEKFile: filepath.Join(dir, "kek")}
	if h.authority, err = ca.Open(ctx, h.store, cfg, log); err == nil {
		err = h.authority.IssueControlPlane(h.source, ca.ServerNames{})
	}
	if err == nil {
		h.replicas, err = replicas.New(replicas.Config{Store: h.store, Rollout: h.rollout, Bound: bound, Name: "one", Log: log})
	}
	if err == nil {
		err = h.replicas.Announce(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	h.snapshots.Follow(func(s *snapshot.Snapshot, agents []string) {
		var touched []rollout.Touched
		for _, agent := range agents {
			touched = append(touched, rollout.Touched{Agent: agent})
		}
		h.rollout.Publish(s.Revision(), touched)
	})
	h.running.Go(func() { _ = h.snapshots.Run(ctx, h.store) })
	return h, nil
}

func (h *house) close() error {
	h.end()
	h.running.Wait()
	return h.store.Close()
}

func (h *house) newest() (admin.View, <-chan struct{}) {
	s, stale := h.snapshots.Newest()
	return s, stale
}

// serve serves administration that sees the state as newest tells it, until stop
// is called.
func (h *house) serve(newest func() (admin.View, <-chan struct{})) (address string, stop func(), err error) {
	administration, err := admin.New(admin.Config{
		Store: h.store, Newest: newest, Fleet: h.replicas, Authority: h.authority,
		Advertised: func(context.Context) admin.Advertised {
			return admin.Advertised{
				TrustDomain: td.Name(), EnrollAddress: "enroll.test:7445,enroll-2.test:7445", SidecarAddress: "sidecar.test:7444,sidecar-2.test:7444",
			}
		},
		Now: time.Now,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return "", nil, err
	}
	everyone := func(identity.Peer) error { return nil }
	server := grpc.NewServer(append(administration.ServerOptions(),
		grpc.Creds(credentials.NewTLS(identity.ServerTLS(h.source, everyone))))...)
	administration.Register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	h.running.Go(func() { _ = server.Serve(listener) })
	return listener.Addr().String(), server.Stop, nil
}

// connect connects to an address with a certificate that is issued for a new
// key.
func (h *house) connect(t *testing.T, address string, issue func(*ecdsa.PublicKey) ([][]byte, time.Time, error)) *grpc.ClientConn {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := issue(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return h.connectWith(t, address, chain, key)
}

func (h *house) connectWith(t *testing.T, address string, chain [][]byte, key *ecdsa.PrivateKey) *grpc.ClientConn {
	t.Helper()
	svid, bundle, err := identity.ParseSVID(chain, h.authority.Roots(), key)
	if err != nil {
		t.Fatal(err)
	}
	source := identity.NewSource()
	source.Set(svid, bundle)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientTLS(source, td))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// admin connects to an address as an administrator of an incarnation.
func (h *house) admin(t *testing.T, address, name, uid string) *grpc.ClientConn {
	t.Helper()
	return h.connect(t, address, func(key *ecdsa.PublicKey) ([][]byte, time.Time, error) {
		return h.authority.IssueAdmin(key, name, uid, 0)
	})
}

// as connects to the plane as a new administrator of a role.
func as(t *testing.T, role adminv1.Admin_Role) *grpc.ClientConn {
	t.Helper()
	name, uid := "admins/"+id(t)+"-"+strings.ToLower(role.String()), id(t)+"-uid"
	plane.appoint(t, name, uid, role)
	return plane.admin(t, plane.address, name, uid)
}

// appoint stores an administrator, and waits until it is known.
func (h *house) appoint(t *testing.T, name, uid string, role adminv1.Admin_Role) {
	t.Helper()
	h.put(t, &adminv1.Admin{Name: name, Role: role, Uid: uid})
}

// put stores an administrator as it is, and waits until it is known.
func (h *house) put(t *testing.T, a *adminv1.Admin) {
	t.Helper()
	revision, err := h.store.Update(t.Context(), store.Meta{Actor: "test", Action: "test"}, func(tx *store.Tx) error {
		return tx.Put(a.GetName(), a)
	})
	if err != nil {
		t.Fatal(err)
	}
	for {
		s, stale := h.snapshots.Newest()
		if s.Revision() >= revision {
			return
		}
		select {
		case <-stale:
		case <-t.Context().Done():
			t.Fatalf("revision %d was not applied", revision)
		}
	}
}

// id is a resource id that no other test has.
func id(t *testing.T) string {
	t.Helper()
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '-'
		}
	}, t.Name()), "-")
}

// world is a namespace with an agent, a server and a tool.
type world struct {
	namespace, agent, server, tool string
}

// newWorld makes a world for the test.
func newWorld(t *testing.T, owner *grpc.ClientConn) world {
	t.Helper()
	ns := "namespaces/" + id(t)
	w := world{
		namespace: ns, agent: ns + "/agents/support", server: ns + "/servers/desk", tool: ns + "/servers/desk/tools/refund",
	}
	_, err := adminv1.NewApplyClient(owner).ApplyResources(t.Context(), &adminv1.ApplyResourcesRequest{Resources: []*adminv1.Resource{
		// What is referred to comes last, on purpose.
		{Kind: &adminv1.Resource_Tool{Tool: &grantv1.Tool{Name: w.tool, Effect: grantv1.Tool_WRITE, Reach: grantv1.Tool_CLOSED}}},
		{Kind: &adminv1.Resource_Server{Server: &grantv1.Server{
			Name: w.server, Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://127.0.0.1:1/mcp"}},
		}}},
		{Kind: &adminv1.Resource_Agent{Agent: &grantv1.Agent{Name: w.agent, Labels: map[string]string{"team": "support"}}}},
		{Kind: &adminv1.Resource_Namespace{Namespace: &grantv1.Namespace{Name: w.namespace}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// wantStatus fails unless err is a status of the code whose text has all words.
func wantStatus(t *testing.T, err error, code codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("got %v; want %v", err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got %q; want %q in it", err, word)
		}
	}
}
