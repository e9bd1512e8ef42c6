package sidecar

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/identity"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	domain = spiffeid.RequireTrustDomainFromString("example.test")
	me     = grant.AgentName("default", "a")
)

// An authority issues SVIDs of the trust domain.
type authority struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: []*url.URL{domain.ID().URL()}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{root: root, key: key}
}

// issue sets an SVID in a source.
func (a authority) issue(t *testing.T, id spiffeid.ID, source *identity.Source) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), URIs: []*url.URL{id.URL()}, Subject: pkix.Name{SerialNumber: "1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	svid, bundle, err := identity.ParseSVID([][]byte{der}, [][]byte{a.root.Raw}, key)
	if err != nil {
		t.Fatal(err)
	}
	source.Set(svid, bundle)
}

// A plane is a control plane that gives everybody an agent and freshness, and
// counts what is uploaded.
type plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	grantv1.UnimplementedFreshnessServer
	ingestv1.UnimplementedIngestServer
	grantv1.UnimplementedClaimsServer

	// more is what it gives everybody besides. Set before the first stream.
	more []proto.Message
	// sends is what it sends the one stream later, as it is.
	sends chan *discoveryv3.DeltaDiscoveryResponse

	mu        sync.Mutex
	claimant  string           // of the sessions that it opens; empty is none
	instances []string         // whose streams there were, in order
	stored    map[string]int64 // records, by instance
}

func (p *plane) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if err := g.SendHeader(metadata.Pairs("reeve-stream", "s", "reeve-store", "store")); err != nil {
		return err
	}
	first, err := g.Recv()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.instances = append(p.instances, first.GetNode().GetMetadata().AsMap()["instance"].(string))
	p.mu.Unlock()
	set := append([]proto.Message{&grantv1.Agent{Name: me, State: grantv1.Agent_ACTIVE, Uid: "1"}}, p.more...)
	for i, m := range set {
		if err := g.Send(responseOf(fmt.Sprintf("n1.%d.%d", i+1, len(set)), "1", m)); err != nil {
			return err
		}
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for {
			select {
			case m := <-p.sends:
				_ = g.Send(m) // the stream has ended, and Recv says so
			case <-g.Context().Done():
				return
			}
		}
	})
	for err == nil {
		_, err = g.Recv()
	}
	return err
}

// responseOf is a response with one resource.
func responseOf(nonce, revision string, m proto.Message) *discoveryv3.DeltaDiscoveryResponse {
	body, err := anypb.New(m)
	if err != nil {
		return nil
	}
	return &discoveryv3.DeltaDiscoveryResponse{
		Nonce: nonce, SystemVersionInfo: revision, TypeUrl: body.GetTypeUrl(),
		Resources: []*discoveryv3.Resource{{Name: m.(interface{ GetName() string }).GetName(), Version: revision, Resource: body}},
	}
}

func (p *plane) Renew(_ context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
	return &grantv1.RenewResponse{
		RequestId: r.GetRequestId(), Revision: 1, Bound: durationpb.New(10 * time.Second), Now: timestamppb.Now(),
	}, nil
}

func (p *plane) Push(stream grpc.BidiStreamingServer[ingestv1.PushRequest, ingestv1.PushResponse]) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.stored[r.GetInstance()] = max(p.stored[r.GetInstance()], r.GetFirstSequence()-1+int64(len(r.GetRecords())))
		n := p.stored[r.GetInstance()]
		p.mu.Unlock()
		if err := stream.Send(&ingestv1.PushResponse{StoredSequence: n}); err != nil {
			return err
		}
	}
}

// serve serves the plane until the test ends and returns its address.
func (p *plane) serve(t *testing.T, a authority) string {
	t.Helper()
	source := identity.NewSource()
	a.issue(t, identity.ControlPlaneID(domain), source)
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(identity.ServerTLS(source, func(identity.Peer) error { return nil }))))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, p)
	grantv1.RegisterFreshnessServer(s, p)
	grantv1.RegisterClaimsServer(s, p)
	ingestv1.RegisterIngestServer(s, p)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(listener) })
	t.Cleanup(func() {
		s.Stop()
		serving.Wait()
	})
	return listener.Addr().String()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// A machine runs a sidecar on clocks that the test sets.
type machine struct {
	sidecar *Sidecar
	plane   *plane
	ahead   atomic.Int64 // of the boot clock
	log     bytes.Buffer // read it when the sidecar has ended
	client  http.Client
	stop    func() error
}

func newMachine(t *testing.T, more ...proto.Message) *machine {
	t.Helper()
	m := &machine{plane: &plane{stored: make(map[string]int64), more: more, sends: make(chan *discoveryv3.DeltaDiscoveryResponse, 8)}}
	a := newAuthority(t)
	meters, metrics, err := ops.NewMetrics()
	if err != nil {
		t.Fatal(err)
	}
	boot, err := replica.BootClock()
	if err != nil {
		t.Fatal(err)
	}
	m.sidecar, err = newSidecar(Config{
		StateDir: t.TempDir(), ControlPlane: []string{m.plane.serve(t, a)}, EnrollAddress: []string{"127.0.0.1:1"},
		CADigest: "sha256:" + strings.Repeat("0", 64), JoinToken: "rjt_" + strings.Repeat("a", 40),
		MCPListen: "127.0.0.1:0", OpsListen: "127.0.0.1:0", DrainTimeout: time.Minute,
	}, Telemetry{Log: slog.New(slog.NewTextHandler(&m.log, nil)), Meters: meters, Metrics: metrics},
		func() time.Duration { return boot() + time.Duration(m.ahead.Load()) })
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.IDOf(domain, me)
	if err != nil {
		t.Fatal(err)
	}
	a.issue(t, id, m.sidecar.source)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.sidecar.Run(ctx) }()
	m.stop = sync.OnceValue(func() error {
		m.client.CloseIdleConnections()
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = m.stop() })
	return m
}

// get returns what ops answers.
func (m *machine) get(t *testing.T, path string) (int, string) {
	t.Helper()
	r, err := m.client.Get("http://" + m.sidecar.OpsAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func (m *machine) ready(t *testing.T) bool {
	t.Helper()
	code, _ := m.get(t, "/readyz")
	return code == http.StatusOK
}

// call makes a call that is denied, and recorded, and returns whether it was
// answered.
func (m *machine) call(t *testing.T) bool {
	t.Helper()
	e := m.sidecar.Endpoint()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.URL+"/mcp/nowhere",
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+e.Secret)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	answer, err := m.client.Do(r)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode != http.StatusUnauthorized
}

// P2, P3: when the clocks disagree, what was begun ends: another instance begins,
// with nothing to act on, at the same endpoint; what was recorded goes up as the
// earlier one's.
func TestBeginsAgain(t *testing.T) {
	m := newMachine(t)
	eventually(t, "ready", func() bool { return m.ready(t) })
	if !m.call(t) {
		t.Fatal("no answer")
	}
	before := m.sidecar.boot.Load()
	const boots = 3
	for n := 1; n <= boots; n++ {
		old := m.sidecar.boot.Load()
		m.ahead.Add(int64(time.Hour))
		eventually(t, "another boot", func() bool { return m.sidecar.boot.Load() != old })
		if old.replica.View().Live() {
			t.Error("what was held by the boot before is still acted on")
		}
		eventually(t, "ready again", func() bool { return m.ready(t) })
		if !m.call(t) {
			t.Error("no answer at the same endpoint, with the same secret")
		}
		now := m.sidecar.boot.Load().instance
		eventually(t, "a stream of the new instance", func() bool {
			m.plane.mu.Lock()
			defer m.plane.mu.Unlock()
			return m.plane.instances[len(m.plane.instances)-1] == now
		})
		eventually(t, "records of both", func() bool {
			m.plane.mu.Lock()
			defer m.plane.mu.Unlock()
			return m.plane.stored[before.instance] >= 1 && m.plane.stored[now] >= 1
		})
	}
	_, metrics := m.get(t, "/metrics")
	written := 0
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "reeve_audit_records_total{") && strings.Contains(line, `"written"`) {
			written++
			if !strings.HasSuffix(line, " 1\n") {
				t.Errorf("the boots before are measured too: %s", line)
			}
		}
	}
	if written != 1 {
		t.Errorf("measured %d times:\n%s", written, metrics)
	}
	if err := m.stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if n := strings.Count(m.log.String(), "begun again"); n != boots {
		t.Errorf("%d lines of %d boots in the log:\n%s", n, boots, &m.log)
	}
}
