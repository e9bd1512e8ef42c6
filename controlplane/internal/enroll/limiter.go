package enroll

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/peer"
)

const (
	perSecond = 20  // requests from one address, in the long run
	burst     = 200 // and at once: a fleet behind one address that starts together
	maxKnown  = 10_000
)

// limiter keeps one address from taking the place of all others. It is safe for
// concurrent use.
type limiter struct {
	mu    sync.Mutex
	known map[string]*rate.Limiter // by address; forgotten when there are too many
}

func newLimiter() *limiter {
	return &limiter{known: make(map[string]*rate.Limiter)}
}

func (l *limiter) allow(address string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.known[address]
	if !ok {
		if len(l.known) >= maxKnown {
			clear(l.known)
		}
		one = rate.NewLimiter(perSecond, burst)
		l.known[address] = one
	}
	return one.AllowN(now, 1)
}

// callerOf is the address that a call came from, without the port.
func callerOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host
}
