// Package xds is the sidecar's half of distribution: it receives the set of its
// agent over incremental xDS, has it enforced, acknowledges it, and asks to act
// for one more bound.
package xds

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

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
