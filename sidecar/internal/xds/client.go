// Package xds is the sidecar's half of distribution: it receives the set of its
// agent over incremental xDS, has it enforced, acknowledges it, and asks to act
// for one more bound.
package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

// The response headers of a stream.
const (
	streamHeader = "reeve-stream"
	storeHeader  = "reeve-store"
)

const (
	// minBackoff and maxBackoff bound how long to wait before a new stream.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// maxResume is how many versions a stream resumes with, at the most. Beyond
	// that the request would be too large, and everything is received anew.
	maxResume = 50_000
)

// connection is the part of *grpc.ClientConn that the client uses.
type connection interface {
	grpc.ClientConnInterface
	// ResetConnectBackoff makes a broken connection try again at once.
	ResetConnectBackoff()
}

// Config is what a client is built from. All fields but Meter must be set.
type Config struct {
	// Conn is the connection to the control plane, made with [DialOptions].
	Conn connection
	// Replica is where the set is published. The client alone writes to it.
	Replica *replica.Replica
	// Clock is the replica's clock.
	Clock replica.Clock
	// Agent is the resource name of the agent that the sidecar's SVID names.
	Agent string
	// Instance is the sidecar's random id of 32 hexadecimal digits, made at
	// each boot.
	Instance string
	// Version is the build version, for people.
	Version string
	// Log is where the state of the stream is noted.
	Log *slog.Logger
	// Meter makes the instruments; nil measures nothing.
	Meter metric.Meter
}

// DialOptions returns what a connection to the control plane must be made with,
// beside its credentials.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 2, Jitter: 0.5, MaxDelay: maxBackoff},
			MinConnectTimeout: maxBackoff,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8 << 20)),
	}
}

// A Status is what the client can say of itself.
type Status struct {
	// Connected says that there is a stream.
	Connected bool
	// Revision is the newest revision of which everything is held; 0 if nothing
	// was received.
	Revision int64
	// Refusals are the resources refused and not accepted since, with reasons.
	Refusals map[string]string
	// Err is why the last stream ended; nil if none did.
	Err error
}

// A Client subscribes for one sidecar. Create it with [New]. Status and Ready
// are safe for concurrent use.
type Client struct {
	cfg       Config
	discovery discoveryv3.AggregatedDiscoveryServiceClient
	renewals  renewals
	metrics   *metrics
	ready     chan struct{}
	readyOnce sync.Once

	// The fields below are used by Run's goroutine alone.
	holding *holding
	store   string // id of the store that holding comes from; empty if none

	mu     sync.Mutex
	status Status
}

// New returns a client. It starts nothing.
func New(cfg Config) (*Client, error) {
	m, err := newMetrics(cfg.Meter, cfg.Replica)
	if err != nil {
		return nil, err
	}
	n, err := grant.ParseName(cfg.Agent)
	if err != nil || n.Collection != grant.Agents {
		return nil, fmt.Errorf("%q is not the resource name of an agent", cfg.Agent)
	}
	c := &Client{
		cfg:       cfg,
		discovery: discoveryv3.NewAggregatedDiscoveryServiceClient(cfg.Conn),
		metrics:   m,
		ready:     make(chan struct{}),
		holding:   newHolding(cfg.Agent),
	}
	c.renewals = newRenewals(c)
	return c, nil
}

// Status returns the newest status.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Refusals = maps.Clone(s.Refusals)
	return s
}

// Ready is closed when the sidecar was fresh for the first time.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// Run keeps a stream until ctx ends, and then returns nil.
func (c *Client) Run(ctx context.Context) error {
	for delay := minBackoff; ; {
		c.cfg.Conn.ResetConnectBackoff()
		opened := time.Now()
		err := c.stream(ctx)
		c.note(func(s *Status) { s.Connected, s.Err = false, err })
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(opened) > maxBackoff {
			delay = minBackoff // it was a good one
		}
		wait := delay/2 + rand.N(delay) //nolint:gosec // spreads a herd, and is no secret
		c.cfg.Log.WarnContext(ctx, "stream ended", slog.Any("error", err), slog.Duration("retry_in", wait))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		delay = min(2*delay, maxBackoff)
	}
}

func (c *Client) note(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}

// stream keeps one stream until it ends, and says why it did.
func (c *Client) stream(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer cancel(nil)
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
	}()

	g, err := c.discovery.DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	header, err := g.Header()
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	id, store := header.Get(streamHeader), header.Get(storeHeader)
	if len(id) != 1 || len(store) != 1 || id[0] == "" {
		// No header, but a status: it says why.
		if _, err := g.Recv(); err != nil {
			return fmt.Errorf("open stream: %w", err)
		}
		return fmt.Errorf("%w: no stream id in the response header", errProtocol)
	}
	c.from(ctx, store[0])
	if err := c.subscribe(g); err != nil {
		return err
	}
	c.note(func(s *Status) { s.Connected = true })
	c.cfg.Log.InfoContext(ctx, "stream opened", slog.String("stream", id[0]))

	caughtUp := make(chan struct{}, 1)
	renewing.Go(func() { c.renewals.run(ctx, id[0], caughtUp, cancel) })
	for {
		m, err := g.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if err := c.receive(ctx, g, m, caughtUp); err != nil {
			return err
		}
	}
}

// from prepares for a stream that comes from a store. If it is another one than
// before, revisions cannot be compared, and everything held is forgotten.
func (c *Client) from(ctx context.Context, store string) {
	if c.store != "" && c.store != store {
		c.cfg.Log.WarnContext(ctx, "another store, everything held is forgotten")
		c.cfg.Replica.Forget()
		c.holding = newHolding(c.cfg.Agent)
		c.renewals.newest.Store(0)
	}
	c.store = store
	c.holding.restart(c.renewals.seen())
}

// subscribe asks for everything, resuming with what is held.
func (c *Client) subscribe(g grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	held := c.holding.versions()
	if c.holding.snapshot.Len() > maxResume {
		clear(held)
	}
	node := &corev3.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		"instance": structpb.NewStringValue(c.cfg.Instance),
		"version":  structpb.NewStringValue(c.cfg.Version),
		"revision": structpb.NewStringValue(fmt.Sprint(c.holding.seen)),
	}}}
	for _, t := range types {
		m := &discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: t.url,
			ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: held[t.url],
		}
		if err := g.Send(m); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		node = nil
	}
	return nil
}

// receive has a response enforced, and then answers it.
func (c *Client) receive(ctx context.Context, g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, m *discoveryv3.DeltaDiscoveryResponse, caughtUp chan<- struct{}) error {
	out, err := c.holding.receive(m)
	if err != nil {
		return err
	}
	if out.lapse {
		c.cfg.Replica.Lapse()
		c.cfg.Log.WarnContext(ctx, "resources refused", slog.Any("refused", c.holding.refused))
	}
	if out.publish != nil {
		if err := c.cfg.Replica.Publish(out.publish); err != nil {
			return err
		}
		refusals := maps.Clone(c.holding.refused)
		c.note(func(s *Status) { s.Revision, s.Refusals = out.publish.Revision(), refusals })
	}
	// Only now: an ACK means that it is enforced.
	for _, a := range out.answers {
		if err := g.Send(a.request()); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		c.metrics.answered(ctx, a)
	}
	if out.complete {
		select {
		case caughtUp <- struct{}{}:
		default:
		}
	}
	return nil
}

func (a answer) request() *discoveryv3.DeltaDiscoveryRequest {
	m := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: a.typeURL, ResponseNonce: a.nonce}
	if len(a.refused) == 0 {
		return m
	}
	bad := &errdetails.BadRequest{}
	for _, name := range slices.Sorted(maps.Keys(a.refused)) {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: name, Description: a.refused[name],
		})
	}
	m.ErrorDetail = &statuspb.Status{
		Code:    int32(codes.InvalidArgument),
		Message: fmt.Sprintf("%d resources refused", len(a.refused)),
	}
	if detail, err := anypb.New(bad); err == nil {
		m.ErrorDetail.Details = []*anypb.Any{detail}
	} // without it, the response is refused as a whole
	return m
}
