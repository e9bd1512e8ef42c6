package floor

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/e2e/fleet/swarm"
)

// Clients are the streams to a floor's server. Create them with [Connect].
type Clients struct {
	epoch   time.Time
	clients []*client
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// A client notes how many messages it has received and when the last one came,
// in nanoseconds since the epoch.
type client struct{ count, at atomic.Int64 }

// Connect opens a stream from each address to the server announced, on a
// connection of its own with the options, and returns when all are open and how
// long that took.
func Connect(ctx context.Context, server Announcement, addresses []net.IP, options ...grpc.DialOption) (*Clients, time.Duration, error) {
	roots, certificate, err := server.client()
	if err != nil {
		return nil, 0, err
	}
	f := &Clients{epoch: time.Now()}
	ctx, f.cancel = context.WithCancel(ctx)
	opened := make(chan error, len(addresses))
	for _, address := range addresses {
		c := &client{}
		f.clients = append(f.clients, c)
		id := swarm.Identity{Certificate: certificate, Address: address}
		f.running.Go(func() {
			conn, err := swarm.Dial(server.Address, roots, id, options...)
			if err != nil {
				opened <- err
				return
			}
			f.watch(ctx, c, conn, opened)
		})
	}
	for range addresses {
		if err := <-opened; err != nil {
			f.Close()
			return nil, 0, err
		}
	}
	return f, time.Since(f.epoch), nil
}

// watch takes over conn.
func (f *Clients) watch(ctx context.Context, c *client, conn *grpc.ClientConn, opened chan<- error) {
	defer func() { _ = conn.Close() }() // what it was needed for is over
	g, err := open(ctx, conn)
	opened <- err
	if err != nil {
		return
	}
	for {
		var m []byte
		if g.RecvMsg(&m) != nil {
			return
		}
		c.at.Store(int64(time.Since(f.epoch)))
		c.count.Add(1)
	}
}

func open(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStream, error) {
	g, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, watchMethod)
	if err != nil {
		return nil, fmt.Errorf("open floor's stream: %w", err)
	}
	var ask []byte
	if err := g.SendMsg(&ask); err != nil {
		return nil, fmt.Errorf("open floor's stream: %w", err)
	}
	if err := g.CloseSend(); err != nil {
		return nil, fmt.Errorf("open floor's stream: %w", err)
	}
	if _, err := g.Header(); err != nil {
		return nil, fmt.Errorf("open floor's stream: %w", err)
	}
	return g, nil
}

// Now is the time on the clients' clock, which Await's is on.
func (f *Clients) Now() time.Duration { return time.Since(f.epoch) }

// Await waits until every client has received so many messages, and returns when
// the last one came.
func (f *Clients) Await(ctx context.Context, messages int64) (time.Duration, error) {
	for {
		var last time.Duration
		missing := 0
		for _, c := range f.clients {
			if c.count.Load() < messages {
				missing++
			}
			last = max(last, time.Duration(c.at.Load()))
		}
		if missing == 0 {
			return last, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d clients have not received message %d: %w", missing, messages, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// Close disconnects all clients.
func (f *Clients) Close() {
	f.cancel()
	f.running.Wait()
}
