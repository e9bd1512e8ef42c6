package xds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

const bound = 10 * time.Second

// A plane is a control plane of this room and the two it works with, over a
// store that the test plays.
type plane struct {
	t         *testing.T
	events    chan store.Event
	snapshots *snapshot.Snapshots
	rollout   *rollout.Rollout
	server    *Server
	listener  *bufconn.Listener
	// head is the store's newest revision, and headErr why it cannot be read.
	head    atomic.Int64
	headErr atomic.Pointer[error]
	reads   atomic.Int64

	mu sync.Mutex // taken while a test changes the store
}

// newPlane returns a control plane that serves and has loaded the resources, at
// revision 1. It ends with the test.
func newPlane(t *testing.T, cfg Config, resources ...proto.Message) *plane {
	t.Helper()
	p := &plane{t: t, events: make(chan store.Event), listener: bufconn.Listen(64 << 10)}
	log := slog.New(slog.DiscardHandler)
	p.snapshots = snapshot.New(log)
	p.rollout = rollout.New(rollout.Config{Bound: bound})
	cfg.Snapshots, cfg.Rollout, cfg.Log = p.snapshots, p.rollout, log
	cfg.Head = func(context.Context) (int64, error) {
		p.reads.Add(1)
		if err := p.headErr.Load(); err != nil {
			return 0, *err
		}
		return p.head.Load(), nil
	}
	var err error
	if p.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(append(ServerOptions(), grpc.Creds(asserted{}))...)
	p.server.Register(g)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.snapshots.Run(ctx, p) })
	running.Go(func() { _ = g.Serve(p.listener) })
	t.Cleanup(func() {
		p.server.Close()
		g.Stop()
		cancel()
		running.Wait()
	})
	p.put(resources...)
	<-p.snapshots.Ready()
	return p
}

// Watch plays the store.
func (p *plane) Watch(ctx context.Context, handle func(store.Event) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-p.events:
			if err := handle(e); err != nil {
				return err
			}
		}
	}
}

// put writes resources in one change, and returns its revision once the control
// plane is told.
func (p *plane) put(resources ...proto.Message) int64 { return p.change(resources, nil) }

// remove deletes resources in one change.
func (p *plane) remove(names ...string) int64 { return p.change(nil, names) }

func (p *plane) change(puts []proto.Message, deletes []string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	revision := p.head.Add(1)
	e := store.Event{
		Revision: revision, Load: revision == 1,
		Head: store.Head{Revision: revision, StoreID: "store"},
		Puts: make(map[string]store.Resource), Deletes: deletes,
	}
	for _, m := range puts {
		name := m.(interface{ GetName() string }).GetName()
		e.Puts[name] = store.Resource{Name: name, Message: m, Revision: revision}
	}
	p.events <- e
	return revision
}

// dial returns a connection of an agent's sidecar. key stands for the sidecar's
// key.
func (p *plane) dial(agent, uid, key string) *grpc.ClientConn {
	p.t.Helper()
	conn, err := grpc.NewClient("passthrough:///controlplane",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(asserted{agent: agent, uid: uid, key: key}),
	)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// asserted are credentials by which a client is who it says, as if it had shown
// a certificate that was verified.
type asserted struct{ agent, uid, key string }

func (a asserted) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	line := fmt.Sprintf("%-128s", a.agent+" "+a.uid+" "+a.key)
	if _, err := io.WriteString(c, line); err != nil {
		return nil, nil, err
	}
	return c, credentials.TLSInfo{}, nil
}

func (asserted) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var line [128]byte
	if _, err := io.ReadFull(c, line[:]); err != nil {
		return nil, nil, err
	}
	var a asserted
	if _, err := fmt.Sscan(string(line[:]), &a.agent, &a.uid, &a.key); err != nil {
		return nil, nil, err
	}
	return c, credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{{
		URIs:                    []*url.URL{{Scheme: "spiffe", Host: "reeve.test", Path: "/ns/default/agent/" + a.agent}},
		Subject:                 pkix.Name{SerialNumber: a.uid},
		RawSubjectPublicKeyInfo: []byte(a.key),
	}}}}, nil
}

func (asserted) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
func (a asserted) Clone() credentials.TransportCredentials { return a }
func (asserted) OverrideServerName(string) error           { return nil }

// The resources of the tests are of the namespace default; an agent's uid is
// its id and "-1".

func agentOf(id string) *grantv1.Agent {
	return &grantv1.Agent{Name: grant.AgentName("default", id), State: grantv1.Agent_ACTIVE, Uid: id + "-1"}
}

func suspended(id string) *grantv1.Agent {
	m := agentOf(id)
	m.State = grantv1.Agent_SUSPENDED
	return m
}

func serverOf(id string) *grantv1.Server {
	return &grantv1.Server{
		Name:     grant.ServerName("default", id),
		Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://127.0.0.1:1/mcp"}},
	}
}

func toolOf(server, id string) *grantv1.Tool {
	return &grantv1.Tool{Name: grant.ToolName("default", server, id), Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED}
}

func allow(id, target string, agents ...string) *grantv1.Grant {
	return &grantv1.Grant{
		Name: grant.GrantName("default", id), Effect: grantv1.Grant_ALLOW,
		Subjects:   &grantv1.Subjects{Agents: agents},
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: target}}},
		ExpireTime: timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
}

// inForce awaits a revision and returns after how long it was in force.
func (p *plane) inForce(t *testing.T, revision int64) time.Duration {
	t.Helper()
	start := time.Now()
	if err := p.rollout.Await(t.Context(), revision, nil); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

func crm() []proto.Message {
	return []proto.Message{
		agentOf("a"), agentOf("b"), serverOf("crm"), toolOf("crm", "read"), toolOf("crm", "write"),
		allow("reads", "crm/read", "a"), allow("writes", "crm/*", "b"),
	}
}
