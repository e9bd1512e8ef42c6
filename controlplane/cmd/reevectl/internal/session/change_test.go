package session

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// TestTimeoutIsOfAllOfIt: the change and the wait together take no longer.
func TestTimeoutIsOfAllOfIt(t *testing.T) {
	t.Parallel()
	const timeout = 5 * time.Second
	for name, change := range map[string]time.Duration{"the change hangs": time.Hour, "the wait hangs": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := serve(t, &fleet{answer: func(_ int32, _ *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
					<-stream.Context().Done()
					return nil
				}})
				s, _ := newSession()
				c := Change{Wait: true, Timeout: timeout}
				began := time.Now()
				err := c.bounded(t.Context(), s, conn, nil, func(ctx context.Context, _ Conn, _ []string) error {
					_, err := c.Made(ctx, "", func(ctx context.Context, _ ...grpc.CallOption) error {
						select {
						case <-ctx.Done():
							return status.FromContextError(ctx.Err()).Err()
						case <-time.After(change):
							return nil
						}
					})
					return err
				})
				if err == nil || time.Since(began) != timeout {
					t.Errorf("ended after %s with %v; want %s", time.Since(began), err, timeout)
				}
			})
		})
	}
}

// TestUntoldRevision: if one of several changes did not tell its revision, what
// is waited for is the newest.
func TestUntoldRevision(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		told []string
		want int64
	}{
		"all told":   {[]string{"42", "41"}, 42},
		"one untold": {[]string{"42", ""}, 0},
		"none told":  {[]string{""}, 0},
		"misread":    {[]string{"forty-two"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var awaited atomic.Int64
			awaited.Store(-1)
			conn := serve(t, &fleet{answer: func(_ int32, req *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
				awaited.Store(req.GetRevision())
				return stream.Send(&adminv1.AwaitRevisionResponse{Revision: 50, InForce: true})
			}})
			s, _ := newSession()
			change := Change{Wait: true, Timeout: time.Minute}
			err := change.bounded(t.Context(), s, conn, nil, func(ctx context.Context, _ Conn, _ []string) error {
				for _, told := range c.told {
					_, err := change.Made(ctx, "", func(_ context.Context, opts ...grpc.CallOption) error {
						if told != "" {
							*opts[0].(grpc.HeaderCallOption).HeaderAddr = metadata.Pairs(revisionHeader, told)
						}
						return nil
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil || awaited.Load() != c.want {
				t.Errorf("awaited revision %d, %v; want %d", awaited.Load(), err, c.want)
			}
		})
	}
}
