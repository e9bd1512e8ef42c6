package observations

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How many tools one agent may report, in the long run and at once: each is up to
// 64 KiB that the store writes. A sidecar reports a definition once.
const (
	perSecond = 1
	burst     = 256
	// maxKnown is how many agents are told apart. More are forgotten together.
	maxKnown = 10_000
)

// limiter keeps one agent from taking the place of all others. It is safe for
// concurrent use.
type limiter struct {
	mu    sync.Mutex
	known map[string]*rate.Limiter // by agent
}

func newLimiter() *limiter { return &limiter{known: make(map[string]*rate.Limiter)} }

func (l *limiter) allow(agent string, tools int, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.known[agent]
	if !ok {
		if len(l.known) >= maxKnown {
			clear(l.known)
		}
		one = rate.NewLimiter(perSecond, burst)
		l.known[agent] = one
	}
	return one.AllowN(now, tools)
}
