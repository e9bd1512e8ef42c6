package xds

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
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
	ahead atomic.Int64
	// opened are the streams, each once it has subscribed.
	opened chan *served

	mu      sync.Mutex
	store   string
	refuse  error // why streams are refused, if they are
	tries   []time.Time
	renew   func(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error)
	renewed []time.Time
}

// A served is a stream of the control plane's side.
type served struct {
	t        *testing.T
	grpc     discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	requests chan *discoveryv3.DeltaDiscoveryRequest
	asked    []*discoveryv3.DeltaDiscoveryRequest // the first of each type
	done     chan error
}

// newPlane starts it all. It ends with the test.
func newPlane(t *testing.T, cut func(*replica.View)) *plane {
	t.Helper()
	p := &plane{t: t, opened: make(chan *served, 100), store: "store"}
	p.renew = p.granted
	start := time.Now()
	clock := func() time.Duration { return time.Hour + time.Since(start) + time.Duration(p.ahead.Load()) }
	p.replica = replica.New(clock)
	if cut != nil {
		p.replica.OnCut(cut)
	}
	listener := bufconn.Listen(64 << 10)
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, p)
	grantv1.RegisterFreshnessServer(g, p)
	conn, err := grpc.NewClient("passthrough:///controlplane", append(DialOptions(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	p.client, err = New(Config{
		Conn: conn, Replica: p.replica, Clock: clock, Agent: me,
		Instance: strings.Repeat("0", 32), Version: "test", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(listener) })
	running.Go(func() { _ = p.client.Run(ctx) })
	running.Go(func() { _ = p.replica.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
		g.Stop()
		running.Wait()
	})
	return p
}

// granted is how a control plane renews that has nothing to object.
func (p *plane) granted(_ context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
	return &grantv1.RenewResponse{
		RequestId: r.GetRequestId(), Revision: 1, Bound: durationpb.New(bound), Now: timestamppb.Now(),
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
	store, refuse := p.store, p.refuse
	p.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	if err := g.SendHeader(metadata.Pairs("reeve-stream", "s", "reeve-store", store)); err != nil {
		return err
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

// P2: an acknowledgement means that the snapshot is enforced: it is sent after
// what it took away was cut.
func TestCutThenAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *plane
		cut := make(chan struct{})
		p = newPlane(t, func(v *replica.View) {
			if v.Snapshot.Revision() == 2 {
				<-cut
			}
		})
		s := p.serve()
		s.send("n2.1.1 grants -read")
		synctest.Wait()
		if _, held := p.replica.View().Snapshot.Lookup("namespaces/default/grants/read"); held {
			t.Error("still there while open calls are cut")
		}
		if len(s.requests) > 0 {
			t.Fatal("acknowledged while open calls are cut")
		}
		close(cut)
		s.answer("n2.1.1")
	})
}

// A refusal goes by name, and ends freshness at once, even if an answer to a
// request made before comes after it (P1).
func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := p.serve()
		asked, answer := make(chan struct{}, 1), make(chan struct{})
		p.set(func() {
			p.renew = func(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				asked <- struct{}{}
				<-answer
				return p.granted(ctx, r)
			}
		})
		<-asked
		time.Sleep(time.Millisecond)
		s.send("n2.1.1 grants bad@2 write@2")
		m := s.answer("n2.1.1")
		p.live(false)
		var bad errdetails.BadRequest
		if err := m.GetErrorDetail().GetDetails()[0].UnmarshalTo(&bad); err != nil {
			t.Fatal(err)
		}
		if v := bad.GetFieldViolations(); len(v) != 1 || v[0].GetField() != "namespaces/default/grants/bad" || v[0].GetDescription() == "" {
			t.Errorf("refused %v", v)
		}
		if len(p.client.Status().Refusals) != 1 {
			t.Errorf("status %+v", p.client.Status())
		}
		p.set(func() {
			p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				return nil, status.Error(codes.FailedPrecondition, "it refused bad")
			}
		})
		close(answer)
		p.live(false)
		time.Sleep(time.Minute)
		p.live(false)
		p.set(func() { p.renew = p.granted })
		s.send("n3.1.1 grants -bad")
		s.answer("n3.1.1")
		p.live(true)
	})
}

// P8: a control plane that is away is asked again, sooner at first, never all at
// once; and the next stream resumes with what is held.
func TestComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := p.serve()
		if got := s.asked[0].GetNode().GetMetadata().AsMap(); !cmp.Equal(got, map[string]any{
			"instance": strings.Repeat("0", 32), "version": "test", "revision": "0",
		}) {
			t.Errorf("node metadata %v", got)
		}
		p.set(func() { p.refuse, p.tries = errAway, nil })
		s.done <- errAway
		time.Sleep(time.Minute)
		p.set(func() {
			for i := 1; i < len(p.tries); i++ {
				if gap := p.tries[i].Sub(p.tries[i-1]); gap > 3*maxBackoff/2 {
					t.Errorf("waited %s", gap)
				}
			}
			if n := len(p.tries); n < 12 || n > 40 {
				t.Errorf("%d tries in a minute", n)
			}
			p.refuse = nil
		})
		p.live(false)
		s = <-p.opened
		got := make(map[string]string)
		for _, m := range s.asked {
			for name, version := range m.GetInitialResourceVersions() {
				got[short(name)] = version
			}
		}
		if diff := cmp.Diff(map[string]string{"me": "1", "read": "1"}, got); diff != "" {
			t.Errorf("resumes (-want +got):\n%s", diff)
		}
		if v := s.asked[0].GetNode().GetMetadata().AsMap()["revision"]; v != "1" {
			t.Errorf("states revision %v, want 1", v)
		}
		p.live(true) // it holds everything, so nothing was sent
	})
}

var errAway = status.Error(codes.Unavailable, "away")

// Another store's revisions cannot be compared: everything is forgotten.
func TestAnotherStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := p.serve()
		s.send("n9.1.1 grants write@9")
		s.answer("n9.1.1")
		p.set(func() {
			p.store = "another"
			p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				return nil, status.Error(codes.FailedPrecondition, "not yet")
			}
		})
		s.done <- errors.New("gone")
		s = <-p.opened
		p.live(false)
		for _, m := range s.asked {
			if len(m.GetInitialResourceVersions()) > 0 {
				t.Errorf("resumes with %v", m.GetInitialResourceVersions())
			}
		}
		if n := p.replica.View().Snapshot.Len(); n != 0 {
			t.Errorf("%d entries of another store", n)
		}
		s.send("n2.1.1 agents me@1")
		s.answer("n2.1.1")
		if got := p.replica.View().Snapshot.Revision(); got != 2 {
			t.Errorf("at revision %d, want 2", got)
		}
	})
}

// A stream that its control plane does not know, or one that breaks the
// protocol, is given up for another.
func TestGivesUpStream(t *testing.T) {
	for name, breaks := range map[string]func(p *plane, s *served){
		"unknown": func(p *plane, _ *served) {
			p.set(func() {
				p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
					return nil, status.Error(codes.NotFound, "no such stream")
				}
			})
		},
		"silent": func(p *plane, _ *served) {
			p.set(func() {
				p.renew = func(ctx context.Context, _ *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
			})
		},
		"backwards": func(_ *plane, s *served) { s.send("n2.1.1 agents me@1"); s.send("n1.1.1 grants -read") },
		"nonsense":  func(_ *plane, s *served) { s.send("m1.1.1 grants -read") },
		"giving":    func(_ *plane, s *served) { s.send("u3.1.1 grants write@3") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlane(t, nil)
				s := p.serve()
				breaks(p, s)
				start := time.Now()
				<-p.opened
				if took := time.Since(start); took > bound {
					t.Errorf("another stream after %s", took)
				}
				held := p.replica.View().Snapshot
				if _, ok := held.Lookup("namespaces/default/grants/read"); !ok || held.Len() != 2 {
					t.Errorf("holds %d entries: the breach took effect", held.Len())
				}
			})
		})
	}
}
