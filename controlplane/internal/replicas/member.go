package replicas

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
)

const (
	// retryFirst and retryAtMost are how long it takes until a lost connection of
	// a wait is tried again.
	retryFirst  = 20 * time.Millisecond
	retryAtMost = time.Second
	// maxHolders is how many sidecars a question names.
	maxHolders = 1000
)

// A script is all that a member was told and asked, so that it can be told and
// asked again over another connection. Safe for concurrent use.
type script struct {
	mu    sync.Mutex
	lines []rollout.Question
	more  chan struct{} // closed when there is another line
}

func newScript() *script { return &script{more: make(chan struct{})} }

// say adds what a question says, in lines of maxHolders.
func (s *script) say(q rollout.Question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.lines)
	for len(q.Elsewhere)+len(q.Held) > 0 {
		n, m := min(len(q.Elsewhere), maxHolders), min(len(q.Held), maxHolders)
		s.lines = append(s.lines, rollout.Question{Elsewhere: q.Elsewhere[:n], Held: q.Held[:m]})
		q = rollout.Question{Elsewhere: q.Elsewhere[n:], Held: q.Held[m:]}
	}
	if len(s.lines) > before {
		close(s.more)
		s.more = make(chan struct{})
	}
}

// line returns the line of a number, or a channel that is closed when there is
// one.
func (s *script) line(n int) (q rollout.Question, ok bool, more <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < len(s.lines) {
		return s.lines[n], true, nil
	}
	return rollout.Question{}, false, s.more
}

// read sends all lines, those to come too, until ctx ends.
func (s *script) read(ctx context.Context, to chan<- rollout.Question) {
	for n := 0; ; {
		q, ok, more := s.line(n)
		if !ok {
			select {
			case <-more:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case to <- q:
			n++
		case <-ctx.Done():
			return
		}
	}
}

type awaiter func(ctx context.Context, revision int64, questions <-chan rollout.Question, tell func(rollout.Answer) error) error

// serve passes what a member is told and asked on to it, and what it says to the
// wait, until ctx ends or await fails.
func (w *wait) serve(ctx context.Context, m *member, await awaiter) error {
	ctx, cancel := context.WithCancel(ctx)
	questions := make(chan rollout.Question)
	var reading sync.WaitGroup
	reading.Go(func() { m.script.read(ctx, questions) })
	defer reading.Wait()
	defer cancel()
	return await(ctx, w.revision, questions, func(a rollout.Answer) error {
		w.post(ctx, event{from: m, answer: a})
		return ctx.Err()
	})
}

// follow serves a member that is another process, anew whenever the connection is
// lost, until ctx ends or it turns out to be gone.
func (w *wait) follow(ctx context.Context, m *member, peer Peer) {
	incarnation := m.presence.GetIncarnation()
	for retry := retryFirst; ; retry = min(2*retry, retryAtMost) {
		err := w.serve(ctx, m, func(ctx context.Context, revision int64, questions <-chan rollout.Question, tell func(rollout.Answer) error) error {
			return peer.AwaitHere(ctx, incarnation, revision, questions, func(a rollout.Answer) error {
				w.replicas.heard(incarnation)
				retry = retryFirst
				return tell(a)
			})
		})
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrIncarnation) {
			w.replicas.replaced(ctx, incarnation)
			return
		}
		w.replicas.cfg.Log.DebugContext(ctx, "control plane not heard",
			slog.String("replica", m.name), slog.Any("error", err))
		if pause(ctx, retry) != nil {
			return
		}
		var err2 error
		if peer, err2 = w.replicas.peer(m.presence.GetAddress()); err2 != nil {
			return
		}
	}
}
