package store

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What etcd answers while it has no leader is a store that does not answer, and
// no status of etcd's gets out.
func TestFailing(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context //nolint:containedctx // a row of a table
		err  error
		want error
	}{
		{t.Context(), rpctypes.ErrLeaderChanged, ErrOffline},
		{t.Context(), rpctypes.ErrNoLeader, ErrOffline},
		{t.Context(), rpctypes.ErrTimeoutDueToLeaderFail, ErrOffline},
		{t.Context(), rpctypes.ErrTooManyRequests, ErrOffline},
		{t.Context(), status.Error(codes.Unavailable, "connection refused"), ErrOffline},
		{t.Context(), context.DeadlineExceeded, ErrOffline},
		{t.Context(), rpctypes.ErrCompacted, ErrCompacted},
		{t.Context(), rpctypes.ErrTooManyOps, ErrTooLarge},
		{t.Context(), rpctypes.ErrNoSpace, nil},
		{t.Context(), status.Error(codes.PermissionDenied, "of etcd"), nil},
		{ended, status.Error(codes.Canceled, "canceled"), context.Canceled},
	} {
		err := failing(c.ctx, c.err)
		for _, known := range []error{ErrOffline, ErrCompacted, ErrTooLarge, context.Canceled} {
			if errors.Is(err, known) != errors.Is(c.want, known) {
				t.Errorf("%v became %v, want %v", c.err, err, c.want)
			}
		}
		if s, ok := status.FromError(err); ok {
			t.Errorf("%v became %v, which is a status: %v", c.err, err, s)
		}
	}
}
