// Package link is the sidecar's connection to the control plane: to one of its
// replicas at a time, and to another when that one is of no use.
package link

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var errClosed = status.Error(codes.Canceled, "the connection to the control plane was closed")

// Config is what a link is made from. Addresses and Options must be set.
type Config struct {
	// Addresses are those of the replicas, which [Validate] must accept. A name
	// with several addresses is as many replicas. They are looked up again after
	// each move, which no lookup holds up.
	Addresses []string
	// Options are the credentials, and what tests dial with.
	Options []grpc.DialOption
	// Lookup finds the addresses of a name; nil asks the system.
	Lookup func(ctx context.Context, host string) ([]string, error)
	// Rand makes the order and the pauses; nil is seeded at random. The link
	// alone uses it.
	Rand *rand.Rand
	// Log is where moves are noted; nil discards them.
	Log *slog.Logger
	// Meter makes the instruments; nil measures nothing.
	Meter metric.Meter
}

// A Link is a connection to one replica. All calls of a sidecar are made on it,
// because a replica grants freshness to whoever has a stream with it only. There
// is none before the first Move: until then, and between two replicas, calls wait
// for as long as their contexts let them.
//
// It is safe for concurrent use, but for Move and Settle, which are for the one
// who has the stream.
type Link struct {
	listed  []string
	options []grpc.DialOption
	log     *slog.Logger
	moves   metric.Int64Counter
	// work is what goes on beside a move. Close ends it and waits for it.
	work   sync.WaitGroup
	closed chan struct{}

	mu    sync.Mutex
	rand  *rand.Rand
	order order
	pace  pace
	// settled is since when the replica is of use; zero if it is not.
	settled time.Time
	address string
	conn    *grpc.ClientConn // nil before the first move and between two replicas
	// changed is closed when there is a connection again.
	changed chan struct{}
	// looking ends the lookup that goes on; nil if none does, and the resolver is
	// nobody's.
	looking  context.CancelFunc
	resolver resolver
}

var _ grpc.ClientConnInterface = (*Link)(nil)

// New returns a link that is not connected. It starts nothing. The caller closes
// it.
func New(cfg Config) (*Link, error) {
	if err := Validate(cfg.Addresses); err != nil {
		return nil, err
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) //nolint:gosec // spreads a fleet, and is no secret
	}
	if cfg.Lookup == nil {
		cfg.Lookup = net.DefaultResolver.LookupHost
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Meter == nil {
		cfg.Meter = noop.Meter{}
	}
	moves, err := cfg.Meter.Int64Counter("reeve.sidecar.moves",
		metric.WithUnit("{move}"), metric.WithDescription("Connections to a replica of the control plane that were given up for the next one, by reason."))
	if err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	l := &Link{
		listed: cfg.Addresses, log: cfg.Log, moves: moves, rand: cfg.Rand,
		options:  append(options(cfg.Rand), cfg.Options...),
		order:    order{rand: cfg.Rand},
		resolver: resolver{lookup: cfg.Lookup, known: make(map[string][]string)},
		closed:   make(chan struct{}),
		changed:  make(chan struct{}),
	}
	return l, nil
}

// Invoke implements [grpc.ClientConnInterface].
func (l *Link) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	conn, err := l.current(ctx)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements [grpc.ClientConnInterface].
func (l *Link) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := l.current(ctx)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, opts...)
}

// current returns the connection, as soon as there is one.
func (l *Link) current(ctx context.Context) (*grpc.ClientConn, error) {
	for {
		l.mu.Lock()
		conn, changed := l.conn, l.changed
		l.mu.Unlock()
		if conn != nil {
			return conn, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-l.closed:
			return nil, errClosed
		}
	}
}
