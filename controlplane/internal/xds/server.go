// Package xds is the control plane's half of distribution: it streams to every
// sidecar the set of its agent over incremental xDS, and lets it act for one
// more bound when it holds that set.
//
// Who is served, and what, follows from the certificate of the connection alone.
package xds

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"slices"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// The response headers of a stream.
const (
	// streamHeader has the stream's id, for RenewRequest.stream.
	streamHeader = "reeve-stream"
	// storeHeader has the store's id. Revisions of different stores cannot be
	// compared.
	storeHeader = "reeve-store"
)

// Config is what a server is built from. Snapshots, Rollout, Head and Log must
// be set.
type Config struct {
	// Snapshots is where the sets come from. It must not run yet.
	Snapshots *snapshot.Snapshots
	// Rollout is told who holds what.
	Rollout *rollout.Rollout
	// Head reads the store's newest revision. The read is linearizable: it
	// shows every change that was made before it began.
	Head func(ctx context.Context) (revision int64, err error)
	// MaxStreams is how many streams there may be, and MaxStreamsPerAgent how
	// many of them one agent's; 0 is 20,000 and 64.
	MaxStreams, MaxStreamsPerAgent int
	// Log is where streams and refusals are noted.
	Log *slog.Logger
	// Meter makes the instruments; nil measures nothing.
	Meter metric.Meter
}

// A Server is safe for concurrent use. Create it with [New].
type Server struct {
	snapshots *snapshot.Snapshots
	rollout   *rollout.Rollout
	heads     *heads
	limits    limits
	log       *slog.Logger
	metrics   *metrics
	sharing   *sharing
	fanout    *fanout

	mu       sync.Mutex
	draining bool
	total    int
	streams  map[string][]*stream // by agent; a slice is replaced, never changed
	ids      map[string]*stream
	current  map[instance]*stream // the newest of each instance
}

type (
	limits   struct{ total, perAgent int }
	instance struct{ agent, id string }
)

// New returns a server that follows cfg.Snapshots.
func New(cfg Config) (*Server, error) {
	m, err := newMetrics(cfg.Meter)
	if err != nil {
		return nil, err
	}
	s := &Server{
		snapshots: cfg.Snapshots,
		rollout:   cfg.Rollout,
		heads:     newHeads(cfg.Head),
		limits:    limits{total: cfg.MaxStreams, perAgent: cfg.MaxStreamsPerAgent},
		log:       cfg.Log,
		metrics:   m,
		sharing:   newSharing(),
		streams:   make(map[string][]*stream),
		ids:       make(map[string]*stream),
		current:   make(map[instance]*stream),
	}
	if s.limits.total == 0 {
		s.limits.total = 20_000
	}
	if s.limits.perAgent == 0 {
		s.limits.perAgent = 64
	}
	s.fanout = newFanout(s.wake)
	cfg.Snapshots.Follow(s.publish)
	return s, nil
}

// Register registers the two services. The gRPC server must have been made with
// [ServerOptions].
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(r, discovery{server: s})
	grantv1.RegisterFreshnessServer(r, freshness{server: s})
}

// Close ends all streams and refuses new ones. Sidecars go elsewhere, or come
// back.
func (s *Server) Close() {
	s.mu.Lock()
	s.draining = true
	var all []*stream
	for _, of := range s.streams {
		all = append(all, of...)
	}
	s.mu.Unlock()
	s.fanout.close()
	for _, st := range all {
		st.end(errDraining)
	}
}

var (
	errDraining = status.Error(codes.Unavailable, "control plane is shutting down")
	errGone     = status.Error(codes.Canceled, "stream ended")
)

// publish follows the snapshots: the rollout learns who is behind before any
// stream does.
func (s *Server) publish(newest *snapshot.Snapshot, agents []string) {
	touched := make([]rollout.Touched, len(agents))
	for i, agent := range agents {
		touched[i].Agent = agent
		if view := newest.View(agent); view != nil {
			touched[i].Bound = view.Bound()
		}
	}
	s.rollout.Publish(newest.Revision(), touched)
	s.fanout.add(agents)
}

// wake has the streams of an agent look at the newest snapshot.
func (s *Server) wake(agent string) {
	s.mu.Lock()
	all := s.streams[agent]
	s.mu.Unlock()
	for _, st := range all {
		st.wake()
	}
}

// discovery serves AggregatedDiscoveryService.
type discovery struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
}

// DeltaAggregatedResources serves one sidecar until either side ends it.
func (d discovery) DeltaAggregatedResources(g discoveryStream) error {
	ctx, s := g.Context(), d.server
	peer, err := identity.PeerFromContext(ctx)
	if err != nil || peer.Kind != identity.Agent {
		return status.Error(codes.Unauthenticated, "only an agent's SVID may stream")
	}
	cancel, ok := cancelOf(ctx)
	if !ok {
		return status.Error(codes.Internal, "server was made without the options of this package")
	}
	st := &stream{
		id: newStreamID(), peer: peer, server: s, grpc: g, cancel: cancel,
		joined: make(chan struct{}), sub: newSubscription(),
	}
	if err := s.add(ctx, st); err != nil {
		return err
	}
	defer s.remove(ctx, st)
	// After add, so that a change is either seen here or wakes the stream.
	newest, _ := s.snapshots.Newest()
	if err := newest.Admit(peer); err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	if err := g.SendHeader(metadata.Pairs(streamHeader, st.id, storeHeader, newest.StoreID())); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "stream opened", slog.String("agent", peer.Name), slog.String("stream", st.id))
	err = st.run(ctx)
	s.log.InfoContext(ctx, "stream closed", slog.String("agent", peer.Name), slog.String("stream", st.id), slog.Any("error", err))
	return err
}

func newStreamID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// add enters the stream in the index, so that it is woken from now on.
func (s *Server) add(ctx context.Context, st *stream) error {
	st.mu.Lock()
	st.deadline = time.AfterFunc(openWithin, func() {
		st.end(status.Errorf(codes.DeadlineExceeded, "not every type was subscribed to within %s", openWithin))
	})
	st.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	agent := st.peer.Name
	var err error
	switch {
	case s.draining:
		err = errDraining
	case s.total >= s.limits.total:
		err = status.Errorf(codes.ResourceExhausted, "this control plane serves %d streams and takes no more", s.total)
	case len(s.streams[agent]) >= s.limits.perAgent:
		err = status.Errorf(codes.ResourceExhausted, "%s has %d streams and gets no more", agent, s.limits.perAgent)
	}
	if err != nil {
		st.deadline.Stop() // nobody else knows the stream
		return err
	}
	s.streams[agent] = append(slices.Clone(s.streams[agent]), st)
	s.ids[st.id] = st
	s.total++
	s.metrics.opened(ctx)
	return nil
}

// join makes the stream the one that its instance is heard on. The caller must
// not hold the stream's mu.
func (s *Server) join(st *stream, as rollout.Stream) error {
	as.ID, as.Agent, as.Key = st.id, st.peer.Name, st.peer.KeyDigest
	if err := s.rollout.Open(as); err != nil {
		return statusOf(err)
	}
	s.mu.Lock()
	k := instance{st.peer.Name, as.Instance}
	old := s.current[k]
	s.current[k], st.instance = st, as.Instance
	s.mu.Unlock()
	close(st.joined)
	if old != nil {
		old.end(status.Error(codes.Aborted, "the sidecar opened another stream"))
	}
	return nil
}

// awaitJoin waits until the rollout knows a stream that is here, or ctx ends. A
// sidecar may ask for freshness before its first request was read.
func (s *Server) awaitJoin(ctx context.Context, id string) {
	s.mu.Lock()
	st := s.ids[id]
	s.mu.Unlock()
	if st == nil {
		return
	}
	select {
	case <-st.joined:
	case <-st.grpc.Context().Done():
	case <-ctx.Done():
	}
}

// remove takes the stream out again.
func (s *Server) remove(ctx context.Context, st *stream) {
	st.end(errGone)
	s.rollout.Close(st.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	agent := st.peer.Name
	s.streams[agent] = slices.DeleteFunc(slices.Clone(s.streams[agent]), func(other *stream) bool { return other == st })
	delete(s.ids, st.id)
	if len(s.streams[agent]) == 0 {
		delete(s.streams, agent)
	}
	if k := (instance{agent, st.instance}); s.current[k] == st {
		delete(s.current, k)
	}
	s.total--
	s.metrics.closed(ctx)
}
