package claims

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How often one agent may ask, in the long run and at once. A change is kept for
// ever, in the chain of changes, and stands in line with those of administrators;
// a draw is neither. Sessions that are there can be claimed and ended once each,
// but there is no end to opening others: an agent that never rests adds some 10 MB
// a day to the store so.
const (
	opensPerSecond, opensAtOnce     = 0.2, 128
	changesPerSecond, changesAtOnce = 1, 128
	drawsPerSecond, drawsAtOnce     = 50, 500
	// changesInLine is how many changes of all agents stand at a time in the line
	// in which administrators' changes stand: a revocation waits for no more of
	// them, whatever a fleet asks for at once. The others wait before it.
	changesInLine = 4
	// maxKnown is how many agents are told apart. More are forgotten together.
	maxKnown = 10_000
)

// limiter keeps one agent from taking the place of all others. It is safe for
// concurrent use.
type limiter struct {
	every rate.Limit
	burst int

	mu    sync.Mutex
	known map[string]*rate.Limiter // by agent
}

func newLimiter(every rate.Limit, burst int) *limiter {
	return &limiter{every: every, burst: burst, known: make(map[string]*rate.Limiter)}
}

func (l *limiter) allow(agent string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.known[agent]
	if !ok {
		if len(l.known) >= maxKnown {
			clear(l.known)
		}
		one = rate.NewLimiter(l.every, l.burst)
		l.known[agent] = one
	}
	return one.AllowN(now, 1)
}
