package xds

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
)

// A connection is as old as the certificate it was made with. SVIDs last an hour
// and are renewed at half of it, so a connection that ends within maxAge, which
// gRPC spreads by a tenth, ends before its SVID does. A sidecar comes back within
// its freshness; who has no newer SVID does not.
const (
	maxAge      = 25 * time.Minute
	maxAgeGrace = 5 * time.Second
)

// How much a sidecar may send before it is read: on one stream, so that records
// flow at 1 MB/s over 100 ms of distance, and on its connection.
const (
	streamWindow = 128 << 10
	connWindow   = 256 << 10
)

// ServerOptions returns what a gRPC server of sidecars must be made with, beside
// its credentials. Its listener should not use TCP keepalive: the probes of
// thousands of idle connections come together and are lost together, and one
// lost probe closes a connection. HTTP/2 pings take their place.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{CodecV2: encoding.GetCodecV2(proto.Name)}),
		grpc.InTapHandle(cancelable),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 60 * time.Second,
			MaxConnectionAge: maxAge, MaxConnectionAgeGrace: maxAgeGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.MaxConcurrentStreams(64),
		grpc.MaxRecvMsgSize(8 << 20),
		// Most connections are idle, and buffers are kept for each. An ACK has a
		// few hundred bytes, and what is longer is read past the buffer.
		grpc.ReadBufferSize(1 << 10),
		grpc.WriteBufferSize(4 << 10),
		// A window that gRPC may grow costs a ping and its answer for every ACK: it
		// measures the connection with each message that comes.
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
	}
}

// codec sends frames as they are, and everything else as protobuf.
type codec struct{ encoding.CodecV2 }

// Marshal implements [encoding.CodecV2].
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(encoded); ok {
		return mem.BufferSlice(e), nil
	}
	return c.CodecV2.Marshal(v)
}

type cancelKey struct{}

// cancelable lets the handler of a call end its own wait in Recv, so that a
// stream needs no goroutine beside the one that receives.
func cancelable(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	return context.WithValue(ctx, cancelKey{}, cancel), nil
}

func cancelOf(ctx context.Context) (context.CancelFunc, bool) {
	cancel, ok := ctx.Value(cancelKey{}).(context.CancelFunc)
	return cancel, ok
}

// codeOf is what the errors of other rooms mean on the wire.
var codeOf = []struct {
	err  error
	code codes.Code
}{
	{rollout.ErrForeignKey, codes.PermissionDenied},
	{rollout.ErrNoStream, codes.NotFound},
	{rollout.ErrNotHolding, codes.FailedPrecondition},
	{rollout.ErrInstances, codes.ResourceExhausted},
	{rollout.ErrSuperseded, codes.Aborted},
	{context.Canceled, codes.Canceled},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
}

func statusOf(err error) error {
	for _, c := range codeOf {
		if errors.Is(err, c.err) {
			return status.Error(c.code, err.Error())
		}
	}
	return status.Error(codes.Internal, "internal error")
}
