package xds

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

const (
	// openWithin is how long a stream may take to ask for every type.
	openWithin = 30 * time.Second
	// closeWithin is how long a sidecar whose agent may not act any more has to
	// acknowledge that before its stream is closed.
	closeWithin = time.Second
)

type discoveryStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

// A stream is one sidecar's. The handler's goroutine receives; another sends
// while there is something to send, so that an idle stream is one goroutine.
type stream struct {
	id     string
	peer   identity.Peer
	server *Server
	grpc   discoveryStream
	// cancel ends the receiver's and the sender's wait.
	cancel  context.CancelFunc
	senders sync.WaitGroup
	// joined is closed when the rollout knows the stream.
	joined chan struct{}
	// instance is guarded by the server's mu.
	instance string

	mu      sync.Mutex
	sub     *subscription
	opened  bool // known to the rollout; written by the receiver alone
	sending bool
	// deadline closes the stream unless it is stopped.
	deadline *time.Timer
	// closing is set when the peer is no longer admitted, ended when the
	// handler is to return or has, why in cause.
	closing error
	ended   bool
	cause   error
}

// run serves the stream until it ends and says why.
func (s *stream) run(ctx context.Context) error {
	defer s.senders.Wait()
	defer s.end(errGone)
	for {
		m, err := s.grpc.Recv()
		if err != nil {
			return s.why(err)
		}
		if err := s.receive(ctx, m); err != nil {
			return err
		}
	}
}

// why returns the cause for which the stream was ended, or else err.
func (s *stream) why(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cause != nil:
		return s.cause
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}

// end makes the handler return, unless it was ended before. The peer is told the
// cause only if the handler is not in Recv, which tells it CANCELED; it learns
// more when it comes back.
func (s *stream) end(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(cause)
}

func (s *stream) endLocked(cause error) {
	if !s.ended {
		s.ended, s.cause = true, cause
		s.deadline.Stop()
		s.cancel()
	}
}

// receive takes in one request.
func (s *stream) receive(ctx context.Context, m *discoveryv3.DeltaDiscoveryRequest) error {
	t, ok := typeOf(m.GetTypeUrl())
	if !ok {
		// Of a type that is not known yet: it is never answered, and a newer
		// sidecar does without it.
		return nil
	}
	r := requestOf(t, m)
	s.noted(ctx, r)
	if !s.opened {
		if err := s.open(ctx, m); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return s.cause
	}
	s.opened = true
	if err := s.sub.request(r); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if s.sub.ready() && s.closing == nil {
		s.deadline.Stop()
	}
	s.report()
	s.wakeLocked()
	if s.ended {
		return s.cause
	}
	return nil
}

// noted counts an answer, and logs a refusal.
func (s *stream) noted(ctx context.Context, r request) {
	switch {
	case r.nonce == "":
	case r.nack:
		s.server.metrics.answered(ctx, outcomeNACK)
		s.server.log.WarnContext(ctx, "resources refused",
			slog.String("agent", s.peer.Name), slog.String("nonce", r.nonce), slog.String("detail", r.detail))
	default:
		s.server.metrics.answered(ctx, outcomeACK)
	}
}

// open reads who the sidecar says it is from the first request.
func (s *stream) open(ctx context.Context, m *discoveryv3.DeltaDiscoveryRequest) error {
	fields := m.GetNode().GetMetadata().GetFields()
	instance := fields["instance"].GetStringValue()
	version := fields["version"].GetStringValue()
	if !isInstance(instance) || len(version) > 64 {
		return status.Error(codes.InvalidArgument, `node.metadata must have "instance", 32 hexadecimal digits, and may have "version", at most 64 bytes`)
	}
	if held, err := strconv.ParseInt(fields["revision"].GetStringValue(), 10, 64); err == nil {
		if newest, _ := s.server.snapshots.Newest(); held > newest.Revision() {
			return status.Errorf(codes.Unavailable, "this control plane is at revision %d, behind the sidecar's %d: try another, or again", newest.Revision(), held)
		}
	}
	ordinal, err := strconv.ParseInt(fields["ordinal"].GetStringValue(), 10, 64)
	if err != nil || ordinal < 0 {
		ordinal = 0
	}
	fresh := freshFor(fields["fresh_for"].GetStringValue())
	err = s.server.join(s, rollout.Stream{Instance: instance, Version: version, Ordinal: ordinal, FreshFor: fresh})
	if err != nil || fresh == 0 {
		return err
	}
	// It acts by what another control plane granted, and from here on by what this
	// one sends it. That is waited for here only if this one has not ended since
	// it was granted.
	ctx, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	if _, err := s.server.heads.newest(ctx); err != nil {
		s.server.log.WarnContext(ctx, "stream not opened", slog.String("agent", s.peer.Name), slog.Any("error", err))
		return status.Error(codes.Unavailable, "the store does not answer")
	}
	return nil
}

// freshFor reads for how long the sidecar may act by the freshness that it has, in
// milliseconds. Who does not say may for as long as anybody.
func freshFor(said string) time.Duration {
	ms, err := strconv.ParseInt(said, 10, 64)
	if err != nil || ms < 0 || ms > rollout.MaxBound.Milliseconds() {
		return rollout.MaxBound
	}
	return time.Duration(ms) * time.Millisecond
}

func isInstance(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

// wake has the stream look at the newest snapshot.
func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

func (s *stream) wakeLocked() {
	if s.ended || s.sending {
		return
	}
	f, ok := s.next()
	if !ok {
		return
	}
	// Never sent from here: whoever wakes streams wakes others too, and a sidecar
	// that does not read makes its sender wait, whatever it has answered.
	s.sending = true
	s.senders.Go(func() { s.send(f) })
}

// send sends f and everything after it.
func (s *stream) send(f frame) {
	for ok := true; ok; {
		// Blocks while the sidecar does not read, until the stream ends.
		if err := s.grpc.SendMsg(s.server.sharing.encode(f)); err != nil {
			s.end(err)
			return
		}
		s.mu.Lock()
		f, ok = s.next()
		if ok = ok && !s.ended; !ok {
			s.sending = false
		}
		s.mu.Unlock()
	}
}

// next returns the next frame of the newest snapshot.
func (s *stream) next() (frame, bool) {
	newest, _ := s.server.snapshots.Newest()
	view := newest.View(s.peer.Name)
	if err := newest.Admit(s.peer); err != nil {
		s.dismiss(status.Error(codes.PermissionDenied, err.Error()))
		if view != nil && view.UID() != s.peer.UID {
			view = nil // of another incarnation: nothing of it is this peer's
		}
	}
	if view == nil {
		view = snapshot.Nothing()
	}
	f, ok := s.sub.next(newest.Revision(), view)
	if len(s.sub.outstanding) > maxOutstanding {
		s.endLocked(status.Errorf(codes.ResourceExhausted, "%d responses are unanswered", len(s.sub.outstanding)))
	}
	if !ok {
		s.report()
	}
	return f, ok
}

// dismiss closes the stream once the sidecar has acknowledged that its agent
// may not act any more, or after a moment.
func (s *stream) dismiss(cause error) {
	if s.closing != nil || s.ended {
		return
	}
	s.closing = cause
	s.deadline.Stop()
	s.deadline = time.AfterFunc(closeWithin, func() { s.end(cause) })
}

// report tells the rollout what the sidecar holds or refuses.
func (s *stream) report() {
	if !s.opened || s.ended {
		return // the rollout does not know it, or must not hear of it any more
	}
	if len(s.sub.refused) > 0 {
		var all []*adminv1.Refusal
		for _, name := range slices.Sorted(maps.Keys(s.sub.refused)) {
			r := s.sub.refused[name]
			all = append(all, &adminv1.Refusal{Name: name, Detail: r.detail, Revision: r.revision})
		}
		s.server.rollout.Refuse(s.id, all)
		return
	}
	revision, ok := s.sub.holds()
	if !ok {
		return
	}
	s.server.rollout.Acknowledge(s.id, revision)
	if s.closing != nil && len(s.sub.outstanding) == 0 {
		s.endLocked(s.closing)
	}
}
