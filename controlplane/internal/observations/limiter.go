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
	// bytesPerSecond and bytesAtOnce are how much all agents may report together: a
	// server that shows each of them other tools each time fills no store, and
	// keeps none from writing what matters.
	bytesPerSecond, bytesAtOnce = 128 << 10, 16 << 20
	// maxKnown is how many agents are told apart. More are forgotten together.
	maxKnown = 10_000
)

// limiter keeps one agent from taking the place of all others, and all of them
// from filling the store. It is safe for concurrent use.
type limiter struct {
	all *rate.Limiter // of bytes

	mu    sync.Mutex
	known map[string]*rate.Limiter // by agent
}

func newLimiter() *limiter {
	return &limiter{all: rate.NewLimiter(bytesPerSecond, bytesAtOnce), known: make(map[string]*rate.Limiter)}
}

// allow reports whether an agent may report so many tools, of so many bytes, now.
func (l *limiter) allow(agent string, tools, bytes int, now time.Time) bool {
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
	return one.AllowN(now, tools) && l.all.AllowN(now, bytes)
}
