package audit

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// codeOf says what a domain error is on the wire.
var codeOf = []struct {
	err  error
	code codes.Code
}{
	{errForeign, codes.PermissionDenied},
	{errInvalid, codes.InvalidArgument},
	{errQuery, codes.InvalidArgument},
	{errGap, codes.FailedPrecondition},
	{errForked, codes.FailedPrecondition},
	{errRaced, codes.Aborted},
	{errBehind, codes.ResourceExhausted},
}

// statusOf makes an error for the wire. The text of one that the table does not
// name is logged and withheld.
func statusOf(ctx context.Context, log *slog.Logger, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	for _, c := range codeOf {
		if errors.Is(err, c.err) {
			return status.Error(c.code, err.Error())
		}
	}
	log.ErrorContext(ctx, "log failed", slog.Any("error", err))
	if errors.Is(err, errOffline) {
		return status.Error(codes.Unavailable, "the log cannot be reached or written; try again later")
	}
	return status.Error(codes.Internal, "internal error; the control plane's log says more")
}
