package xds

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// renewWithin is how long a request for freshness waits for its sidecar to hold
// what the store holds.
const renewWithin = 2 * time.Second

// freshness serves Freshness.
type freshness struct {
	grantv1.UnimplementedFreshnessServer
	server *Server
}

// Renew implements [grantv1.FreshnessServer].
func (f freshness) Renew(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
	peer, err := identity.PeerFromContext(ctx)
	if err != nil || peer.Kind != identity.Agent {
		return nil, status.Error(codes.Unauthenticated, "only an agent's SVID may ask for freshness")
	}
	if n := len(r.GetStream()); n == 0 || n > 64 {
		return nil, status.Error(codes.InvalidArgument, "stream must be the id from the response header "+streamHeader)
	}
	if n := len(r.GetRequestId()); n < 16 || n > 64 {
		return nil, status.Error(codes.InvalidArgument, "request_id must have 16 to 64 bytes")
	}
	ctx, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	head, err := f.server.heads.newest(ctx)
	if err != nil {
		f.server.log.WarnContext(ctx, "store head not read", slog.Any("error", err))
		return nil, status.Error(codes.Unavailable, "the store does not answer")
	}
	newest, _ := f.server.snapshots.Newest()
	if err := newest.Admit(peer); err != nil {
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	f.server.awaitJoin(ctx, r.GetStream())
	granted, err := f.server.rollout.Grant(ctx, rollout.Renewal{
		Stream: r.GetStream(), Agent: peer.Name, Key: peer.KeyDigest, Revision: head,
	})
	if err != nil {
		f.server.metrics.asked(ctx, outcomeRefused)
		return nil, statusOf(err)
	}
	f.server.metrics.asked(ctx, outcomeGranted)
	m := &grantv1.RenewResponse{
		RequestId: r.GetRequestId(),
		Revision:  granted.Held,
		Bound:     durationpb.New(granted.Bound),
		Now:       timestamppb.Now(),
	}
	if granted.Longest > 0 {
		m.LongestBound = durationpb.New(granted.Longest)
	}
	return m, nil
}

// heads reads the store's newest revision for many at once. A read serves all
// who asked before it began, and nobody who asked later: what it shows may be
// older than their request.
type heads struct {
	read func(ctx context.Context) (revision int64, err error)
	// turn is filled by the one who reads.
	turn chan struct{}

	mu sync.Mutex
	// next has not begun; nil if nobody waits for one.
	next *reading
}

// A reading is one read of the head. The others are set when done is closed.
type reading struct {
	done     chan struct{}
	revision int64
	err      error
}

func newHeads(read func(context.Context) (int64, error)) *heads {
	return &heads{read: read, turn: make(chan struct{}, 1)}
}

// newest returns the store's newest revision as of some moment after the call.
func (h *heads) newest(ctx context.Context) (int64, error) {
	h.mu.Lock()
	if h.next == nil {
		h.next = &reading{done: make(chan struct{})}
	}
	r := h.next
	h.mu.Unlock()

	select {
	case <-r.done:
		return r.revision, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case h.turn <- struct{}{}:
	}
	defer func() { <-h.turn }()
	select {
	case <-r.done:
		return r.revision, r.err
	default:
	}
	// Readings begin in order and with the turn only, so r is still the next.
	h.mu.Lock()
	h.next = nil
	h.mu.Unlock()
	// Others wait for it too: it must not end with this caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewWithin)
	defer cancel()
	r.revision, r.err = h.read(ctx)
	close(r.done)
	return r.revision, r.err
}
