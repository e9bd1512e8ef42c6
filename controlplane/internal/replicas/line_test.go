package replicas

import (
	"context"
	"errors"
	"sync"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
)

// A line is the connection of one control plane to another.
type line struct {
	from *node
	to   string
}

// Close implements [Peer].
func (l *line) Close() error { return nil }

var errRefused = errors.New("connection refused")

// pass waits while nothing comes through. It fails if there is nobody, or another
// than n if that is not nil.
func (l *line) pass(ctx context.Context, n *node) (*node, error) {
	w := l.from.w
	w.delay()
	for {
		w.mu.Lock()
		to := w.nodes[l.to]
		stuck := l.from.apart[l.to] || l.from.paused
		if to != nil {
			stuck = stuck || to.paused || to.apart[l.from.address]
		}
		news := w.news
		w.mu.Unlock()
		if !stuck && (to == nil || n != nil && to != n) {
			return nil, errRefused
		}
		if !stuck {
			return to, ctx.Err()
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// AwaitHere implements [Peer].
func (l *line) AwaitHere(ctx context.Context, incarnation string, revision int64, questions <-chan rollout.Question, tell func(rollout.Answer) error) error {
	n, err := l.pass(ctx, nil)
	if err != nil {
		return err
	}
	if !n.replicas.isOwn(incarnation) {
		return ErrIncarnation
	}
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(n.ctx, cancel)()
	there := make(chan rollout.Question)
	var relay sync.WaitGroup
	defer relay.Wait()
	defer cancel()
	relay.Go(func() {
		for {
			select {
			case q := <-questions:
				if _, err := l.pass(ctx, n); err != nil {
					return
				}
				select {
				case there <- q:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return n.rollout.AwaitHere(ctx, revision, there, func(a rollout.Answer) error {
		if _, err := l.pass(ctx, n); err != nil {
			return err
		}
		if n.before {
			a.Standings = nil
		}
		return tell(a)
	})
}

// ListHere implements [Peer].
func (l *line) ListHere(ctx context.Context, incarnation string) (Listing, error) {
	n, err := l.pass(ctx, nil)
	if err != nil {
		return Listing{}, err
	}
	if !n.replicas.isOwn(incarnation) {
		return Listing{}, ErrIncarnation
	}
	told := n.replicas.here()
	if n.before {
		told.StoreAge = 0
	}
	return told, nil
}
