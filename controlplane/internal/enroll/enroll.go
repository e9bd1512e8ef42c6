// Package enroll gives sidecars their identity: it takes join tokens in and
// issues SVIDs for the keys that were enrolled with them.
package enroll

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/ca"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// NewToken makes a join token and what the store keeps of it, to be put under
// the name that is returned. agent is the agent's resource name.
func NewToken(agent, uid, creator string, expire *timestamppb.Timestamp) (token, name string, kept *storev1.JoinToken, err error) {
	return "", "", nil, errors.ErrUnsupported
}

// Server serves enroll/v1.
type Server struct {
	enrollv1.UnimplementedEnrollmentServer
}

// NewServer returns a server of enroll/v1. It needs no client certificate: the
// caller proves itself in the request.
func NewServer(s *store.Store, a *ca.Authority, log *slog.Logger) *Server { return nil }

// Attest implements enroll/v1.
func (s *Server) Attest(ctx context.Context, r *enrollv1.AttestRequest) (*enrollv1.AttestResponse, error) {
	return nil, errors.ErrUnsupported
}

// Renew implements enroll/v1.
func (s *Server) Renew(ctx context.Context, r *enrollv1.RenewRequest) (*enrollv1.RenewResponse, error) {
	return nil, errors.ErrUnsupported
}
