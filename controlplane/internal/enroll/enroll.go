// Package enroll gives sidecars their identity: it takes join tokens in and
// issues SVIDs for the keys that were enrolled with them.
package enroll

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// issuer is the part of the certificate authority that is needed here.
type issuer interface {
	// IssueAgent issues an SVID to the agent of a resource name and incarnation.
	IssueAgent(pub *ecdsa.PublicKey, name, uid string) (chain [][]byte, notAfter time.Time, err error)
	// Roots are the trust domain's roots in DER.
	Roots() [][]byte
}

// Server serves enroll/v1. It is safe for concurrent use.
type Server struct {
	enrollv1.UnimplementedEnrollmentServer

	store  *store.Store
	issuer issuer
	limits *limiter
	log    *slog.Logger
}

// NewServer returns a server of enroll/v1. It needs no client certificate: the
// caller proves itself in the request.
func NewServer(s *store.Store, i issuer, log *slog.Logger) *Server {
	return &Server{store: s, issuer: i, limits: newLimiter(), log: log}
}

// Attest implements enroll/v1.
func (s *Server) Attest(ctx context.Context, r *enrollv1.AttestRequest) (*enrollv1.AttestResponse, error) {
	svid, err := s.attest(ctx, r)
	if err != nil {
		return nil, s.statusOf(ctx, err)
	}
	return &enrollv1.AttestResponse{Svid: svid}, nil
}

func (s *Server) attest(ctx context.Context, r *enrollv1.AttestRequest) (*enrollv1.Svid, error) {
	pub, digest, err := s.readRequest(ctx, r.GetCsr())
	if err != nil {
		return nil, err
	}
	e := enrolment{
		now: time.Now(), key: digest,
		tokenName: store.TokenName(r.GetJoinToken()), keyName: store.EnrollmentName(digest),
	}
	// Changes wait for each other, and strangers are not to stand in that line.
	if _, err := s.store.Get(ctx, e.tokenName); errors.Is(err, store.ErrNotFound) {
		return nil, errRefused
	}
	meta := store.Meta{Actor: "controlplane", Action: enrollv1.Enrollment_Attest_FullMethodName}
	_, err = s.store.Update(ctx, meta, func(tx *store.Tx) error { return e.attest(ctx, tx) })
	switch {
	case errors.Is(err, errTokenUsed):
		if failed := s.suspend(ctx, e.agent, e.uid); failed != nil {
			return nil, failed
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	s.log.InfoContext(ctx, "sidecar enrolled", slog.String("agent", e.agent), slog.String("uid", e.uid))
	return s.issue(pub, e.agent, e.uid)
}

// suspend answers a token that was used twice: one of the two who had it was
// not meant to, and nobody can say which.
func (s *Server) suspend(ctx context.Context, name, uid string) error {
	meta := store.Meta{
		Actor: "controlplane", Action: "suspend agent",
		Reason: "a join token that was already used was presented again with another key",
	}
	_, err := s.store.Update(ctx, meta, func(tx *store.Tx) error {
		agent, err := activeAgent(ctx, tx, name, uid)
		if errors.Is(err, errNotActive) || errors.Is(err, errRefused) {
			return nil // suspended already, or no longer the agent that the token was for
		}
		if err != nil {
			return err
		}
		agent.State = grantv1.Agent_SUSPENDED
		agent.UpdateTime = timestamppb.Now()
		return tx.Put(name, agent)
	})
	s.log.ErrorContext(ctx, "join token used twice",
		slog.String("agent", name), slog.String("uid", uid), slog.String("caller", callerOf(ctx)), slog.Bool("suspended", err == nil))
	if err != nil {
		return fmt.Errorf("suspend %s: %w", name, err)
	}
	return nil
}

// Renew implements enroll/v1.
func (s *Server) Renew(ctx context.Context, r *enrollv1.RenewRequest) (*enrollv1.RenewResponse, error) {
	svid, err := s.renew(ctx, r)
	if err != nil {
		return nil, s.statusOf(ctx, err)
	}
	return &enrollv1.RenewResponse{Svid: svid}, nil
}

func (s *Server) renew(ctx context.Context, r *enrollv1.RenewRequest) (*enrollv1.Svid, error) {
	pub, digest, err := s.readRequest(ctx, r.GetCsr())
	if err != nil {
		return nil, err
	}
	kept, err := get[*storev1.Enrollment](ctx, s.store, store.EnrollmentName(digest))
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNotEnrolled
	}
	if err != nil {
		return nil, err
	}
	if _, err := activeAgent(ctx, s.store, kept.GetAgent(), kept.GetAgentUid()); err != nil {
		if errors.Is(err, errRefused) {
			return nil, errNotEnrolled
		}
		return nil, err
	}
	return s.issue(pub, kept.GetAgent(), kept.GetAgentUid())
}

func (s *Server) readRequest(ctx context.Context, csr []byte) (pub *ecdsa.PublicKey, digest [32]byte, err error) {
	if !s.limits.allow(callerOf(ctx), time.Now()) {
		return nil, digest, errOverloaded
	}
	if pub, err = identity.ParseRequest(csr); err != nil {
		return nil, digest, err
	}
	digest, err = identity.KeyDigest(pub)
	return pub, digest, err
}

func (s *Server) issue(pub *ecdsa.PublicKey, name, uid string) (*enrollv1.Svid, error) {
	chain, notAfter, err := s.issuer.IssueAgent(pub, name, uid)
	if err != nil {
		return nil, err
	}
	return &enrollv1.Svid{
		Certificates: chain,
		Bundle:       s.issuer.Roots(),
		Agent:        name,
		ExpireTime:   timestamppb.New(notAfter),
	}, nil
}
