// Package swarm plays many sidecars in one process, each with its own identity,
// connection and stream, at little cost: it speaks the real protocol, and reads
// no more of what it is told than it needs to answer and to come back.
package swarm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Bounds of the wait before a stream is opened again, as a sidecar has them.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// How often an idle connection is probed, give or take a quarter, as a sidecar
// has it. The other limits are longer than a sidecar's, which does not share a
// processor with thousands of its kind: what is late here may be so only because
// this process had no turn.
const (
	keepaliveEvery   = 20 * time.Second
	keepaliveTimeout = 30 * time.Second
	connectTimeout   = 30 * time.Second
	renewTimeout     = 30 * time.Second
)

// An Identity is who a simulated sidecar is.
type Identity struct {
	// Agent is the resource name of its agent.
	Agent string
	// Instance is its random id, [NewInstance]. Whoever comes back by it is known
	// again, and nobody waits for what it was before.
	Instance string
	// Certificate is its SVID.
	Certificate tls.Certificate
	// Address is the loopback address that it connects from.
	Address net.IP
}

// Config says how a swarm behaves.
type Config struct {
	// Endpoints are the control planes' sidecar doors. Sidecars begin spread
	// over them, and go to the next one when a stream ends.
	Endpoints []string
	// Roots vouch for the control planes.
	Roots *x509.CertPool
	// Renew has every sidecar ask for freshness again at each third of its bound,
	// as sidecars do. Otherwise it asks once on each stream and is silent then.
	Renew bool
}

// A Swarm is safe for concurrent use. Create it with [New].
type Swarm struct {
	cfg      Config
	epoch    time.Time
	sidecars []*sidecar
	cancel   context.CancelFunc
	running  sync.WaitGroup
	lost     atomic.Int64
	renewed  atomic.Int64
	cause    atomic.Pointer[error]
}

// New returns a swarm that is not connected.
func New(cfg Config, identities []Identity) *Swarm {
	s := &Swarm{cfg: cfg, epoch: time.Now(), cancel: func() {}}
	for i, id := range identities {
		s.sidecars = append(s.sidecars, newSidecar(s, id, i))
	}
	return s
}

// Start has all sidecars connect at once. They go on until ctx ends or Stop.
func (s *Swarm) Start(ctx context.Context) {
	ctx, s.cancel = context.WithCancel(ctx)
	for _, c := range s.sidecars {
		s.running.Go(func() { c.run(ctx) })
	}
}

// Stop disconnects all sidecars and waits until they are gone.
func (s *Swarm) Stop() {
	s.cancel()
	s.running.Wait()
}

// Now is the time on the swarm's clock, which its other times are on.
func (s *Swarm) Now() time.Duration { return time.Since(s.epoch) }

// AwaitFresh waits until every sidecar was granted freshness after the time
// given and is on the stream it was granted on, and returns when the last one was.
func (s *Swarm) AwaitFresh(ctx context.Context, after time.Duration) (time.Duration, error) {
	for {
		var last time.Duration
		missing := 0
		for _, c := range s.sidecars {
			at := time.Duration(c.fresh.Load())
			if at <= after {
				missing++
			}
			last = max(last, at)
		}
		if missing == 0 {
			return last, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d sidecars are not fresh (%w): the last stream that ended said: %w", missing, len(s.sidecars), ctx.Err(), s.why())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// AwaitReceived waits until every sidecar was sent something of the revision or
// a later one, and returns when each was sent the last thing.
func (s *Swarm) AwaitReceived(ctx context.Context, revision int64) ([]time.Duration, error) {
	for {
		at := make([]time.Duration, 0, len(s.sidecars))
		for _, c := range s.sidecars {
			if c.newest.Load() >= revision {
				at = append(at, time.Duration(c.received.Load()))
			}
		}
		if len(at) == len(s.sidecars) {
			return at, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d sidecars have heard of revision %d: %w", len(at), len(s.sidecars), revision, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// Received returns when sidecar i was sent something of the revision or a later
// one; 0 if it was not yet.
func (s *Swarm) Received(i int, revision int64) time.Duration {
	if c := s.sidecars[i]; c.newest.Load() >= revision {
		return time.Duration(c.received.Load())
	}
	return 0
}

// Frames returns how many responses all sidecars together have received.
func (s *Swarm) Frames() int64 {
	var n int64
	for _, c := range s.sidecars {
		n += c.frames.Load()
	}
	return n
}

// FrameSize returns the size of the last response that a sidecar received.
func (s *Swarm) FrameSize() int { return int(s.sidecars[0].size.Load()) }

// RenewAll has every sidecar ask for freshness now, so many at a time, and
// returns how long it took until the last was answered.
func (s *Swarm) RenewAll(ctx context.Context, atOnce int) (time.Duration, error) {
	began := time.Now()
	turns := make(chan struct{}, atOnce)
	var failed atomic.Pointer[error]
	var asking sync.WaitGroup
	for _, c := range s.sidecars {
		turns <- struct{}{}
		asking.Go(func() {
			defer func() { <-turns }()
			if _, err := c.renewNow(ctx); err != nil {
				failed.Store(&err)
			}
		})
	}
	asking.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return time.Since(began), nil
}

// On returns how many sidecars have their stream to an endpoint.
func (s *Swarm) On(endpoint string) int {
	n := 0
	for _, c := range s.sidecars {
		if c.on() == endpoint {
			n++
		}
	}
	return n
}

// Lost returns how many streams have ended by themselves, and why the last did.
func (s *Swarm) Lost() (int64, error) { return s.lost.Load(), s.why() }

// Renewed returns how many requests for freshness were granted.
func (s *Swarm) Renewed() int64 { return s.renewed.Load() }

func (s *Swarm) why() error {
	if err := s.cause.Load(); err != nil {
		return *err
	}
	return nil
}

// Dial returns a connection such as every simulated sidecar has, made when it
// is first used. Options are added to its own.
func Dial(endpoint string, roots *x509.CertPool, id Identity, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: id.Address}, KeepAlive: -1}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.Certificate}, ServerName: "127.0.0.1"}
	every := keepaliveEvery*3/4 + time.Duration(rand.Int64N(int64(keepaliveEvery/2))) //nolint:gosec // spreads a herd, and is no secret
	return grpc.NewClient("passthrough:///"+endpoint, append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(Raw{})),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 2, Jitter: 0.5, MaxDelay: maxBackoff},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: every, Timeout: keepaliveTimeout}),
		grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
		grpc.WithReadBufferSize(4 << 10), grpc.WithWriteBufferSize(4 << 10),
	}, options...)...)
}

// StaticWindows are windows that gRPC does not grow, as sidecars have them. To
// grow them it would measure the connection, by a ping and its answer, with each
// message that comes.
func StaticWindows() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithStaticStreamWindowSize(64 << 10), grpc.WithStaticConnWindowSize(64 << 10)}
}
