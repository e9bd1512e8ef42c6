package admin

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// What the rooms behind administration wrap for a caller to be told.
var (
	// ErrInvalid: what was asked for cannot be done as it was asked for.
	ErrInvalid = errors.New("invalid")
	// ErrPrecondition: what was asked for cannot be done as things are.
	ErrPrecondition = errors.New("not possible now")
	// ErrUnavailable: nobody can answer now; later somebody may.
	ErrUnavailable = errors.New("not available")
)

// errGone says that the caller was removed, or lost its role, since the call
// was admitted.
var errGone = errors.New("you may not do this any more")

// codeOf is what callers are told of an error. One that is not here is told as
// INTERNAL, without its text.
var codeOf = []struct {
	err  error
	code codes.Code
}{
	{ErrInvalid, codes.InvalidArgument},
	{grant.ErrInvalid, codes.InvalidArgument},
	{ErrPrecondition, codes.FailedPrecondition},
	{errGone, codes.PermissionDenied},
	{ErrUnavailable, codes.Unavailable},
	{store.ErrNotFound, codes.NotFound},
	{store.ErrExists, codes.AlreadyExists},
	{store.ErrConflict, codes.Aborted},
	{store.ErrTooLarge, codes.InvalidArgument},
	{store.ErrCompacted, codes.Aborted},
	{store.ErrOffline, codes.Unavailable},
	{context.Canceled, codes.Canceled},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
}

// statusOf returns what callers are told of an error. An error that is a status
// already is told as it is.
func statusOf(err error) *status.Status {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus()
	}
	for _, c := range codeOf {
		if errors.Is(err, c.err) {
			return status.New(c.code, err.Error())
		}
	}
	return status.New(codes.Internal, "the control plane failed at this: its log says why")
}
