// Package refusal says no: it makes the errors that administrators are told, and
// the statuses that all errors become.
package refusal

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// refusal is an error that a caller is told with a code.
type refusal struct {
	code codes.Code
	error
}

func (r *refusal) Unwrap() error { return r.error }

// New returns an error that a caller is told with the code.
func New(code codes.Code, err error) error { return &refusal{code, err} }

// Invalid returns an error: what was asked for cannot be done as it was asked for.
func Invalid(format string, args ...any) error {
	return &refusal{codes.InvalidArgument, fmt.Errorf(format, args...)}
}

// Impossible returns an error: what was asked for cannot be done as things are.
func Impossible(format string, args ...any) error {
	return &refusal{codes.FailedPrecondition, fmt.Errorf(format, args...)}
}

// Denied returns an error: the caller may not do what was asked for.
func Denied(format string, args ...any) error {
	return &refusal{codes.PermissionDenied, fmt.Errorf(format, args...)}
}

// codeOf is what callers are told of an error. One that is not here is told as
// INTERNAL, without its text.
var codeOf = []struct {
	err  error
	code codes.Code
}{
	{grant.ErrInvalid, codes.InvalidArgument},
	{store.ErrNotFound, codes.NotFound},
	{store.ErrExists, codes.AlreadyExists},
	{store.ErrConflict, codes.Aborted},
	{store.ErrTooLarge, codes.InvalidArgument},
	{store.ErrCompacted, codes.Aborted},
	{context.Canceled, codes.Canceled},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
}

// StatusOf returns what callers are told of an error. An error that is a status
// already is told as it is.
func StatusOf(err error) *status.Status {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus()
	}
	var r *refusal
	if errors.As(err, &r) {
		return status.New(r.code, err.Error())
	}
	if errors.Is(err, store.ErrOffline) {
		return offline(err)
	}
	for _, c := range codeOf {
		if errors.Is(err, c.err) {
			return status.New(c.code, err.Error())
		}
	}
	return status.New(codes.Internal, "the control plane failed at this: its log says why")
}

// offline is what a caller is told when the store does not answer: not in the
// words of the store's client, which are those of the caller's own client when
// that cannot reach us. The reason UNWRITTEN says that nothing was changed, so
// that another control plane may be asked.
func offline(err error) *status.Status {
	if !errors.Is(err, store.ErrUnwritten) {
		return status.New(codes.Unavailable, store.ErrOffline.Error())
	}
	s := status.New(codes.Unavailable, store.ErrUnwritten.Error())
	if with, err := s.WithDetails(&errdetails.ErrorInfo{Reason: "UNWRITTEN", Domain: "admin.reeve"}); err == nil {
		return with
	}
	return s
}
