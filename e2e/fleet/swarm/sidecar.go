package swarm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// types are what a sidecar subscribes to. A control plane ignores what it does
// not know.
var types = []string{"Agent", "Server", "Tool", "Grant", "FleetState", "Session"}

// A sidecar is one simulated sidecar.
type sidecar struct {
	swarm    *Swarm
	id       Identity
	endpoint int

	// held is what it holds, by name with versions; seen the newest revision that
	// it holds whole. The receiver alone uses them.
	held    map[entry]string
	seen    int64
	opened  int64       // streams
	pending [][2]string // type and nonce of the set being received

	// newest is the newest revision of which something was received, received
	// when, frames how many responses there were, and size the last one's. Times
	// are in nanoseconds on the swarm's clock.
	newest, received, frames, size atomic.Int64
	// fresh is when it was last granted freshness on its present stream; 0 if it
	// was not.
	fresh atomic.Int64

	mu     sync.Mutex
	conn   *grpc.ClientConn // of the present stream; nil if there is none
	stream string           // id of the present stream
	where  string           // endpoint of the present stream
}

func newSidecar(s *Swarm, id Identity, i int) *sidecar {
	return &sidecar{swarm: s, id: id, endpoint: i, held: make(map[entry]string)}
}

// NewInstance returns an id as a sidecar makes at each boot.
func NewInstance() string { return randomID() }

func randomID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// run keeps a stream until ctx ends.
func (c *sidecar) run(ctx context.Context) {
	for delay := minBackoff; ; {
		opened := time.Now()
		err := c.keep(ctx)
		if ctx.Err() != nil {
			return
		}
		c.fresh.Store(0)
		c.swarm.lost.Add(1)
		c.swarm.cause.Store(&err)
		if time.Since(opened) > maxBackoff {
			delay = minBackoff
		}
		c.endpoint++
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay/2 + mathrand.N(delay)): //nolint:gosec // spreads a herd, and is no secret
		}
		delay = min(2*delay, maxBackoff)
	}
}

// keep keeps one stream until it ends, and says why it did.
func (c *sidecar) keep(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer cancel(nil)
	endpoint := c.swarm.cfg.Endpoints[c.endpoint%len(c.swarm.cfg.Endpoints)]
	conn, err := Dial(endpoint, c.swarm.cfg.Roots, c.id, StaticWindows()...)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // what it was needed for is over
	g, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, streamMethod)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	header, err := g.Header()
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	id := header.Get("reeve-stream")
	if len(id) != 1 {
		var m []byte
		return fmt.Errorf("open stream: %w", errors.Join(errors.New("no stream id"), g.RecvMsg(&m)))
	}
	c.note(conn, id[0], endpoint)
	defer c.note(nil, "", "")
	c.opened++
	if err := c.subscribe(g); err != nil {
		return err
	}
	renewing.Go(func() { c.renew(ctx, cancel) })
	for {
		var m []byte
		if err := g.RecvMsg(&m); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("receive: %w", err)
		}
		if err := c.receive(g, m); err != nil {
			return err
		}
	}
}

func (c *sidecar) note(conn *grpc.ClientConn, stream, endpoint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.stream, c.where = conn, stream, endpoint
}

func (c *sidecar) on() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.where
}

// subscribe asks for everything, resuming with the versions held.
func (c *sidecar) subscribe(g grpc.ClientStream) error {
	c.pending = nil
	node := &corev3.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		"instance": structpb.NewStringValue(c.id.Instance),
		"version":  structpb.NewStringValue("simulated"),
		"revision": structpb.NewStringValue(strconv.FormatInt(c.seen, 10)),
		"ordinal":  structpb.NewStringValue(strconv.FormatInt(c.opened, 10)),
		// It acts on nothing, and need not be waited for where it was not let act.
		"fresh_for": structpb.NewStringValue("0"),
	}}}
	for _, name := range types {
		m := &discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: typePrefix + name, ResourceNamesSubscribe: []string{"*"},
			InitialResourceVersions: make(map[string]string),
		}
		of := unique.Make(m.GetTypeUrl())
		for e, version := range c.held {
			if e.typeURL == of {
				m.InitialResourceVersions[e.name.Value()] = version
			}
		}
		b, err := proto.Marshal(m)
		if err != nil {
			return err
		}
		if err := g.SendMsg(&b); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		node = nil
	}
	return nil
}

// receive takes in a response, and answers it as soon as its set is whole.
func (c *sidecar) receive(g grpc.ClientStream, m []byte) error {
	at := int64(c.swarm.Now())
	r, err := read(m,
		func(typeURL, name, version string) {
			c.held[entry{unique.Make(typeURL), unique.Make(name)}] = version
		},
		func(typeURL, name string) {
			delete(c.held, entry{unique.Make(typeURL), unique.Make(name)})
		})
	if err != nil {
		return err
	}
	c.received.Store(at)
	c.newest.Store(max(c.newest.Load(), r.revision))
	c.frames.Add(1)
	c.size.Store(int64(len(m)))
	if r.urgent {
		return c.answer(g, r.typeURL, r.nonce)
	}
	if r.chunk != len(c.pending)+1 {
		return fmt.Errorf("receive %s: %d chunks of the set are here", r.nonce, len(c.pending))
	}
	c.pending = append(c.pending, [2]string{r.typeURL, r.nonce})
	if r.chunk < r.chunks {
		return nil
	}
	for _, p := range c.pending {
		if err := c.answer(g, p[0], p[1]); err != nil {
			return err
		}
	}
	c.pending = c.pending[:0]
	c.seen = max(c.seen, r.revision)
	return nil
}

func (c *sidecar) answer(g grpc.ClientStream, typeURL, nonce string) error {
	b := ack(typeURL, nonce)
	if err := g.SendMsg(&b); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// renew asks for freshness until it was granted, and then, if the swarm renews,
// at each third of the bound.
func (c *sidecar) renew(ctx context.Context, end context.CancelCauseFunc) {
	for {
		wait := 250*time.Millisecond + mathrand.N(250*time.Millisecond) //nolint:gosec // spreads a herd, and is no secret
		bound, err := c.renewNow(ctx)
		switch code := status.Code(err); {
		case err == nil && !c.swarm.cfg.Renew:
			return
		case err == nil:
			wait = bound / 3
		case ctx.Err() != nil:
			return
		case code == codes.NotFound, code == codes.DeadlineExceeded, code == codes.PermissionDenied:
			end(fmt.Errorf("renew freshness: %w", err))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// renewNow asks once, and returns the bound.
func (c *sidecar) renewNow(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	c.mu.Lock()
	conn, stream := c.conn, c.stream
	c.mu.Unlock()
	if conn == nil {
		return 0, status.Error(codes.NotFound, "no stream")
	}
	ask, answer := renewal(stream, randomID()), []byte(nil)
	if err := conn.Invoke(ctx, renewMethod, &ask, &answer); err != nil {
		return 0, err
	}
	var m grantv1.RenewResponse
	if err := proto.Unmarshal(answer, &m); err != nil {
		return 0, fmt.Errorf("read renewal: %w", err)
	}
	c.swarm.renewed.Add(1)
	c.fresh.Store(int64(c.swarm.Now()))
	return m.GetBound().AsDuration(), nil
}
