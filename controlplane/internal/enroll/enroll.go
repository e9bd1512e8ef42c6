// Package enroll gives sidecars their identity: it takes join tokens in and
// issues SVIDs for the keys that were enrolled with them.
package enroll

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
)

// issuer is the part of the certificate authority that is needed here.
type issuer interface {
	IssueAgent(pub *ecdsa.PublicKey, name, uid string) (chain [][]byte, notAfter time.Time, err error)
	Roots() [][]byte
}

// Server serves enroll/v1.
type Server struct {
	enrollv1.UnimplementedEnrollmentServer
}

// NewServer returns a server of enroll/v1. It needs no client certificate: the
// caller proves itself in the request.
func NewServer(s *store.Store, a issuer, log *slog.Logger) *Server { return nil }

// Attest implements enroll/v1.
func (s *Server) Attest(ctx context.Context, r *enrollv1.AttestRequest) (*enrollv1.AttestResponse, error) {
	return nil, errors.ErrUnsupported
}

// Renew implements enroll/v1.
func (s *Server) Renew(ctx context.Context, r *enrollv1.RenewRequest) (*enrollv1.RenewResponse, error) {
	return nil, errors.ErrUnsupported
}
