// Package claims gives sidecars what only one may have: sessions that their
// agents open, the claim on a session, and blocks of the calls that a grant's
// limits leave to several sidecars together.
//
// Who asks is the agent, and the enrolled key, of the connection's certificate
// alone.
package claims

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"buf.build/go/protovalidate"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// A keeper is what is needed of the store. See package store for the contracts.
type keeper interface {
	Update(ctx context.Context, meta store.Meta, change func(*store.Tx) error) (int64, error)
	Draw(ctx context.Context, grant, agent string, own store.Count, decide func(store.Draw) (*storev1.Drawn, error)) error
}

// Server serves [grantv1.ClaimsServer]. It is safe for concurrent use.
type Server struct {
	grantv1.UnimplementedClaimsServer

	store    keeper
	now      func() time.Time
	log      *slog.Logger
	validate protovalidate.Validator
	requests metric.Int64Counter
	opens    *limiter
	changes  *limiter
	draws    *limiter
	opened   openings
	line     chan struct{} // as many as there may be in line, by sending
}

// NewServer returns a server over a store. now is the wall clock; meter makes the
// instruments, and nil measures nothing.
func NewServer(s keeper, now func() time.Time, log *slog.Logger, meter metric.Meter) (*Server, error) {
	validate, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("read the contract's constraints: %w", err)
	}
	requests, err := newCounter(meter)
	if err != nil {
		return nil, err
	}
	return &Server{
		store: s, now: now, log: log, validate: validate, requests: requests,
		opens:   newLimiter(opensPerSecond, opensAtOnce),
		changes: newLimiter(changesPerSecond, changesAtOnce), draws: newLimiter(drawsPerSecond, drawsAtOnce),
		line: make(chan struct{}, changesInLine),
	}, nil
}

// OpenSession implements [grantv1.ClaimsServer].
func (s *Server) OpenSession(ctx context.Context, r *grantv1.OpenSessionRequest) (*grantv1.OpenSessionResponse, error) {
	return answer(ctx, s, grantv1.Claims_OpenSession_FullMethodName, r, s.opens, s.open)
}

// ClaimSession implements [grantv1.ClaimsServer].
func (s *Server) ClaimSession(ctx context.Context, r *grantv1.ClaimSessionRequest) (*grantv1.ClaimSessionResponse, error) {
	return answer(ctx, s, grantv1.Claims_ClaimSession_FullMethodName, r, s.changes, s.claim)
}

// CloseSession implements [grantv1.ClaimsServer].
func (s *Server) CloseSession(ctx context.Context, r *grantv1.CloseSessionRequest) (*grantv1.CloseSessionResponse, error) {
	return answer(ctx, s, grantv1.Claims_CloseSession_FullMethodName, r, s.changes, s.end)
}

// DrawCalls implements [grantv1.ClaimsServer].
func (s *Server) DrawCalls(ctx context.Context, r *grantv1.DrawCallsRequest) (*grantv1.DrawCallsResponse, error) {
	return answer(ctx, s, grantv1.Claims_DrawCalls_FullMethodName, r, s.draws, s.draw)
}

// answer admits a caller, has do answer, and turns its error into a status.
func answer[Q proto.Message, A any](
	ctx context.Context, s *Server, method string, r Q, l *limiter,
	do func(context.Context, caller, Q) (A, error),
) (a A, err error) {
	c, err := s.admit(ctx, method, r, l)
	if err == nil {
		a, err = do(ctx, c, r)
	}
	err = s.statusOf(ctx, c, err)
	count(ctx, s.requests, method, err)
	return a, err
}

// A caller is the agent whom a certificate names, and the key that it is for.
type caller struct {
	agent grant.Name
	name  string // of the agent, put together
	uid   string // the agent's incarnation
	// claimant is what the key is called in a session that it has claimed.
	claimant string
	id       string // SPIFFE ID, as change records have it
	method   string // that was called
}

// admit finds out who calls, and refuses whoever calls too often and what breaks
// the contract. Whether the agent may act is asked of the store, with the rest.
func (s *Server) admit(ctx context.Context, method string, r proto.Message, l *limiter) (caller, error) {
	peer, err := identity.PeerFromContext(ctx)
	if err != nil || peer.Kind != identity.Agent {
		return caller{}, errNoAgent
	}
	name, err := grant.ParseName(peer.Name)
	if err != nil {
		return caller{}, errNoAgent
	}
	c := caller{
		agent: name, name: peer.Name, uid: peer.UID, id: peer.ID.String(), method: method,
		claimant: Claimant(peer.KeyDigest),
	}
	if !l.allow(peer.Name, s.now()) {
		return c, errOverloaded
	}
	if err := s.validate.Validate(r); err != nil {
		return c, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return c, nil
}

// Claimant is what a key is called in the sessions that it has claimed, given
// SHA-256 of its SubjectPublicKeyInfo.
func Claimant(keyDigest [32]byte) string { return "sha256:" + hex.EncodeToString(keyDigest[:]) }

// change is what a change by the caller records of itself.
func (c caller) change() store.Meta { return store.Meta{Actor: c.id, Action: c.method} }

// mayAct returns nil if a resource is the caller's agent, of its incarnation, and
// the agent may act.
func (c caller) mayAct(m proto.Message) (*grantv1.Agent, error) {
	a, ok := m.(*grantv1.Agent)
	if !ok || c.uid == "" || a.GetUid() != c.uid || a.GetState() != grantv1.Agent_ACTIVE {
		return nil, errNotActive
	}
	return a, nil
}
