package quota

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A block is an eighth of what is left, so that little is lost with a sidecar that
// does not come back, and many calls need few draws.
const (
	blockPart = 8
	maxBlock  = 100
)

// drawAgain is how long Run waits after a draw that failed.
const drawAgain = 2 * time.Second

// A Drawer draws calls from what a grant leaves to several sidecars together. A
// request that is repeated gets the same calls again. It is called by several
// goroutines at once.
type Drawer interface {
	DrawCalls(ctx context.Context, grant, uid string, calls int64, request string) (drawn, left int64, err error)
}

// Draw draws calls for w, or waits for the draw that is under way. Afterwards Look
// says whether there were any. The request is in the file before it is made, so
// that calls whose answer is lost are asked for again, also after a kill.
func (q *Quota) Draw(ctx context.Context, d Drawer, w Want) error {
	q.mu.Lock()
	s := q.find(w.Key)
	if s == nil {
		var err error
		if s, err = q.make(&w); err != nil {
			q.failed(err, w.Key)
			q.mu.Unlock()
			return fmt.Errorf("draw calls: %w", err)
		}
	}
	switch {
	case s.broken:
		q.mu.Unlock()
		return fmt.Errorf("draw calls: %w", errDamaged)
	case s.drawing != nil:
		drawing := s.drawing
		q.mu.Unlock()
		select {
		case <-drawing:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("draw calls: %w", context.Cause(ctx))
		}
	}
	next := s.state
	if next.asked == 0 {
		_, _ = rand.Read(next.request[:]) // documented never to fail
		next.asked = blockOf(&next, &w)
		if err := q.store(s, &next); err != nil {
			q.failed(err, w.Key)
			q.mu.Unlock()
			return fmt.Errorf("draw calls: %w", err)
		}
	}
	s.drawing = make(chan struct{})
	asked, request := next.asked, hex.EncodeToString(next.request[:])
	q.mu.Unlock()

	drawn, left, err := d.DrawCalls(ctx, w.Grant, w.Key.id, asked, request)
	if err == nil && (drawn < 0 || drawn > asked || left < 0) {
		err = errors.New("the control plane's answer is not about what was asked")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	close(s.drawing)
	s.drawing = nil
	if err == nil {
		err = q.drew(s, &w, drawn, left)
	}
	if err != nil {
		return fmt.Errorf("draw calls: %w", err)
	}
	return nil
}

// blockOf is how many calls to ask for.
func blockOf(s *state, w *Want) int64 {
	left := s.left
	if s.drawn == 0 {
		left = w.Limits.Max
	}
	return min(max(left/blockPart, 1), maxBlock)
}

// drew takes in an answer. The caller holds mu.
func (q *Quota) drew(s *slot, w *Want, drawn, left int64) error {
	next := s.state
	next.drawn += drawn
	next.left, next.block = left, drawn
	next.asked, next.request = 0, [16]byte{}
	if err := q.store(s, &next); err != nil {
		q.failed(err, w.Key) // the same request gets the same calls another time
		return err
	}
	s.empty = 0
	if drawn == 0 {
		s.empty = w.Revision
	}
	delete(q.lows, s)
	q.metrics.drawn.Add(drawn)
	return nil
}

// checkLow has Run draw if little is left of the last block. The caller holds mu.
func (q *Quota) checkLow(s *slot, w *Want) {
	if 3*(s.drawn-s.used) >= s.block || s.empty != 0 && s.empty == w.Revision || s.drawn >= w.Limits.Max {
		return
	}
	q.lows[s] = *w
	select {
	case q.low <- struct{}{}:
	default:
	}
}

// Run draws calls ahead of need until ctx ends, and then returns nil.
func (q *Quota) Run(ctx context.Context, d Drawer) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.low:
		}
		failed := false
		for _, w := range q.wanting() {
			if err := q.Draw(ctx, d, w); err != nil && ctx.Err() == nil {
				failed = true
				q.log.WarnContext(ctx, "no calls drawn ahead", slog.String("grant", w.Grant), slog.Any("error", err))
			}
		}
		if !failed {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(drawAgain):
			select {
			case q.low <- struct{}{}:
			default:
			}
		}
	}
}

// wanting returns what is low.
func (q *Quota) wanting() []Want {
	q.mu.Lock()
	defer q.mu.Unlock()
	wants := make([]Want, 0, len(q.lows))
	for _, w := range q.lows {
		wants = append(wants, w)
	}
	return wants
}
