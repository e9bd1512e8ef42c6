package mcp

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/own"
)

// unchecked takes note of a call that is denied because the server cannot be asked
// for its list. An agent that tries again and again, as in a session that it never
// finished to begin, fills no log.
func (x *exchange) unchecked(ctx context.Context, err error) {
	x.h.metrics.unchecked.Add(ctx, 1)
	level := slog.LevelDebug
	if x.h.unchecked.first(x.list(), x.h.config.Clock()) {
		level = slog.LevelWarn
	}
	x.h.log.LogAttrs(ctx, level, "definition not checked", slog.String("server", x.server), slog.Any("error", err))
}

const (
	// saidAgain is after how long the same is said again, and maxSaid of how many
	// places it is remembered.
	saidAgain = time.Minute
	maxSaid   = 1024
)

// said is where something was last said of. It is safe for concurrent use.
type said struct {
	mu   sync.Mutex
	when map[own.Place]time.Duration // on the clock
}

// first reports whether it is to be said of a place, at most once in saidAgain.
func (s *said) first(at own.Place, now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.when[at]; ok && now-last < saidAgain {
		return false
	}
	if s.when == nil || len(s.when) >= maxSaid {
		s.when = make(map[own.Place]time.Duration)
	}
	s.when[at] = now
	return true
}
