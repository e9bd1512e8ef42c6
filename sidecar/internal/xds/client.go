// Package xds is the sidecar's half of distribution: it receives the set of its
// agent over incremental xDS, has it enforced, acknowledges it, and asks to act
// for one more bound. A replica of the control plane that is no help with that is
// left for another while there is freshness left.
package xds

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

// The response headers of a stream.
const (
	streamHeader = "reeve-stream"
	storeHeader  = "reeve-store"
)

// Replicas are those of the control plane, to one of which the connection leads.
type Replicas interface {
	// Move gives up the connection, and with it all its calls, for one to the
	// next replica. It waits first if all of them have failed in turn, or if
	// patient says that the next will hardly do better. It fails only when ctx
	// ends or the connection is no longer to be used.
	Move(ctx context.Context, reason string, patient bool) error
	// Settle says that the replica is of use.
	Settle()
	// Replicas returns how many there are.
	Replicas() int
}

// Config is what a client is built from. All fields but Meter must be set.
type Config struct {
	// Conn is the connection to the control plane.
	Conn grpc.ClientConnInterface
	// Replicas are where Conn can lead. The client alone moves it.
	Replicas Replicas
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
	leave     chan error // why to give up the replica, see Leave
	ready     chan struct{}
	readyOnce sync.Once

	// heard is when the last response came, on the replica's clock.
	heard atomic.Int64

	// The fields below are used by Run's goroutine alone.
	holding *holding
	opened  int64  // streams, tries included
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
		leave:     make(chan error, 1),
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

// Run keeps a stream, moving from replica to replica, until ctx ends, and then
// returns nil.
func (c *Client) Run(ctx context.Context) error {
	for why := (leaving{reason: "start"}); ; {
		if err := c.cfg.Replicas.Move(ctx, why.reason, why.patient); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("connect to the control plane: %w", err)
		}
		err := c.stream(ctx)
		c.note(func(s *Status) { s.Connected, s.Err = false, err })
		if ctx.Err() != nil {
			return nil
		}
		why = leavingOf(err)
		c.cfg.Log.WarnContext(ctx, "stream ended", slog.Any("error", err), slog.String("reason", why.reason))
		c.scatter(ctx)
	}
}

func (c *Client) note(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}
