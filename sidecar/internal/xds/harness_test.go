package xds

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/link"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bound = 10 * time.Second

// A plane is a control plane that the test plays, with the sidecar's client and
// replica. Its stream answers nothing by itself; Renew answers as renew says.
type plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	grantv1.UnimplementedFreshnessServer

	t       *testing.T
	client  *Client
	replica *replica.Replica
	// ahead is how far the boot clock is ahead of the bubble's: time asleep.
	ahead *atomic.Int64
	// opened are the streams, each once it has subscribed.
	opened chan *served
	// gone refuses connections, and stopped lets them hang.
	gone, stopped atomic.Bool
	listener      *bufconn.Listener

	mu sync.Mutex
	// revision, bound and longest are what granted answers.
	revision int64
	bound    time.Duration
	longest  time.Duration
	conns    []*wire
	dials    int
	store    string
	refuse   error // why streams are refused, if they are
	deaf     bool  // streams are opened, and what comes on them is not read
	tries    []time.Time
	renew    func(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error)
	renewed  []time.Time
}

// A served is a stream of the control plane's side.
type served struct {
	t        *testing.T
	grpc     discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	requests chan *discoveryv3.DeltaDiscoveryRequest
	asked    []*discoveryv3.DeltaDiscoveryRequest // the first of each type
	done     chan error
}

// newPlane starts it all, with one replica. It ends with the test.
func newPlane(t *testing.T, cut func(*replica.View)) *plane {
	t.Helper()
	return newPlanes(t, 1, cut)[0]
}

// newPlanes starts a sidecar with several replicas, the first of which it goes to
// first. It ends with the test.
func newPlanes(t *testing.T, n int, cut func(*replica.View)) []*plane {
	t.Helper()
	start, ahead := time.Now(), new(atomic.Int64)
	clock := func() time.Duration { return time.Hour + time.Since(start) + time.Duration(ahead.Load()) }
	held := replica.New(clock)
	if cut != nil {
		held.OnCut(cut)
	}
	all, addresses := make(map[string]*plane, n), make([]string, n)
	for i := range n {
		addresses[i] = fmt.Sprintf("192.0.2.%d:7444", i+1)
		p := &plane{
			t: t, replica: held, ahead: ahead, opened: make(chan *served, 1000), store: "store",
			listener: bufconn.Listen(64 << 10), revision: 1, bound: bound,
		}
		p.renew = p.granted
		all[addresses[i]] = p
	}
	route, err := link.New(link.Config{
		Addresses: addresses,
		Options: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return all[address].dial(ctx) }),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	client, err := New(Config{
		Conn: route, Replicas: route, Replica: held, Clock: clock, Agent: me,
		Instance: strings.Repeat("0", 32), Version: "test", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	planes := make([]*plane, n)
	servers := make([]*grpc.Server, n)
	for i, address := range addresses {
		p := all[address]
		p.client, planes[i] = client, p
		servers[i] = grpc.NewServer()
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(servers[i], p)
		grantv1.RegisterFreshnessServer(servers[i], p)
		running.Go(func() { _ = servers[i].Serve(p.listener) })
	}
	running.Go(func() { _ = client.Run(ctx) })
	running.Go(func() { _ = held.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = route.Close()
		for _, g := range servers {
			g.Stop()
		}
		running.Wait()
	})
	return planes
}

// dial connects the sidecar to the replica, if that is there.
func (p *plane) dial(ctx context.Context) (net.Conn, error) {
	p.set(func() { p.dials++ })
	if p.gone.Load() {
		return nil, syscall.ECONNREFUSED
	}
	conn, err := p.listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, plane: p, closed: make(chan struct{})}
	p.set(func() { p.conns = append(p.conns, w) })
	return w, nil
}

// dialled returns how many connections were tried.
func (p *plane) dialled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

// cut breaks the sidecar's connections.
func (p *plane) cut() {
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, w := range conns {
		_ = w.Close()
	}
}

// A wire leads to a replica that can be stopped: then it takes everything and
// gives nothing, as the kernel does for a process that is stopped.
type wire struct {
	net.Conn
	plane  *plane
	closed chan struct{}
	once   sync.Once
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if w.plane.stopped.Load() {
		<-w.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	if w.plane.stopped.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// granted is how a control plane renews that has nothing to object.
func (p *plane) granted(_ context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &grantv1.RenewResponse{
		RequestId: r.GetRequestId(), Revision: p.revision, Bound: durationpb.New(p.bound), Now: timestamppb.Now(),
		LongestBound: durationpb.New(p.longest),
	}, nil
}

func (p *plane) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// renewals returns how many requests for freshness there were.
func (p *plane) renewals() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.renewed)
}

func (p *plane) Renew(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
	p.mu.Lock()
	p.renewed = append(p.renewed, time.Now())
	renew := p.renew
	p.mu.Unlock()
	return renew(ctx, r)
}

func (p *plane) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	p.mu.Lock()
	p.tries = append(p.tries, time.Now())
	store, refuse, deaf := p.store, p.refuse, p.deaf
	p.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	if err := g.SendHeader(metadata.Pairs("reeve-stream", "s", "reeve-store", store)); err != nil {
		return err
	}
	if deaf {
		<-g.Context().Done()
		return g.Context().Err()
	}
	s := &served{t: p.t, grpc: g, requests: make(chan *discoveryv3.DeltaDiscoveryRequest, 100), done: make(chan error, 1)}
	go func() { // ends with this handler
		for n := 0; ; n++ {
			m, err := g.Recv()
			if err != nil {
				close(s.requests)
				return
			}
			if n < len(types) {
				s.asked = append(s.asked, m)
				if n == len(types)-1 {
					p.opened <- s
				}
				continue
			}
			s.requests <- m
		}
	}()
	select {
	case err := <-s.done:
		return err
	case <-g.Context().Done():
		return g.Context().Err()
	}
}

// send sends a response, written as in testdata.
func (s *served) send(line string) {
	s.t.Helper()
	if err := s.grpc.Send(response(s.t, strings.Fields(line))); err != nil {
		s.t.Fatal(err)
	}
}

// answer waits for the answer to a nonce.
func (s *served) answer(nonce string) *discoveryv3.DeltaDiscoveryRequest {
	s.t.Helper()
	m, ok := <-s.requests
	if !ok || m.GetResponseNonce() != nonce {
		s.t.Fatalf("answered %v, want an answer to %s", m, nonce)
	}
	return m
}

// serve plays a control plane from which the sidecar gets a set at revision 1
// and freshness.
func (p *plane) serve() *served {
	p.t.Helper()
	s := <-p.opened
	s.send("n1.1.2 agents me@1")
	s.send("n1.2.2 grants read@1")
	s.answer("n1.1.2")
	s.answer("n1.2.2")
	<-p.client.Ready()
	return s
}

// live wants the replica to be live, or not.
func (p *plane) live(want bool) {
	p.t.Helper()
	synctest.Wait()
	if got := p.replica.View().Live(); got != want {
		p.t.Fatalf("live: %t, want %t", got, want)
	}
}
