package rollout

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

const (
	// progressEvery is how often a waiter is told of progress.
	progressEvery = 250 * time.Millisecond
	// deadlineEvery is how often deadlines are looked at, at the most: many
	// sidecars cut off together have many deadlines.
	deadlineEvery = 5 * time.Millisecond
	// maxStragglers is how many of those waited for are named.
	maxStragglers = 20
	// maxHolders is how many sidecars an answer names.
	maxHolders = 1000
	// maxAsked is how many sidecars one waiter may ask after and tell of. Those
	// beyond it are waited out.
	maxAsked = 100_000
)

// Await returns nil when the revision, which the store must have reached, is in
// force here: every sidecar of this process that may be fresh holds everything of
// its own up to it. Meanwhile it calls progress, which may be nil, at once and a
// few times a second, and with in_force set before it returns nil. It fails with
// the error of progress, or of ctx if that ends first.
func (r *Rollout) Await(ctx context.Context, revision int64, progress func(*adminv1.AwaitRevisionResponse) error) error {
	if progress == nil {
		progress = func(*adminv1.AwaitRevisionResponse) error { return nil }
	}
	return r.AwaitHere(ctx, revision, nil, func(a Answer) error { return progress(a.Progress) })
}

// AwaitHere is Await for those who wait elsewhere too. It calls tell also with
// what it has to say of sidecars, and goes on answering when the revision is in
// force, until questions is closed. In force is said once, and is final. A nil
// questions counts as closed.
func (r *Rollout) AwaitHere(ctx context.Context, revision int64, questions <-chan Question, tell func(Answer) error) error {
	w := newWaiter(revision)
	r.mu.Lock()
	r.waiters[w] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiters, w)
	}()
	open := questions != nil
	var told time.Time
	var last *adminv1.AwaitRevisionResponse
	for {
		a, next, advanced := r.look(w)
		last = a.Progress
		if len(a.Left) > 0 || a.Progress.GetInForce() || time.Since(told) >= progressEvery {
			told = time.Now()
			a.Standings = r.stand(w)
			if err := tell(a); err != nil {
				return err
			}
		}
		if a.Progress.GetInForce() {
			break
		}
		if len(a.Left) == maxHolders { // there may be more
			continue
		}
		timer := time.NewTimer(min(next, progressEvery))
		for again := false; !again; {
			select {
			case <-advanced:
				again = true
			case <-w.none:
				again = true
			case <-timer.C:
				again = true
			case q, ok := <-questions:
				if !ok {
					questions, open = nil, false
					continue
				}
				r.learn(w, q)
			case <-w.answered:
				if err := r.tellAnswers(w, last, tell); err != nil {
					timer.Stop()
					return err
				}
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
		}
		timer.Stop()
	}
	for open {
		select {
		case q, ok := <-questions:
			if open = ok; ok {
				r.learn(w, q)
			}
		case <-w.answered:
			if err := r.tellAnswers(w, last, tell); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tellAnswers tells which of those asked after hold the revision. p is told again
// with each.
func (r *Rollout) tellAnswers(w *waiter, p *adminv1.AwaitRevisionResponse, tell func(Answer) error) error {
	r.mu.Lock()
	answers := w.answers
	w.answers = nil
	r.mu.Unlock()
	for len(answers) > 0 {
		n := min(len(answers), maxHolders)
		if err := tell(Answer{Progress: p, Held: answers[:n], Standings: r.stand(w)}); err != nil {
			return err
		}
		answers = answers[n:]
	}
	return nil
}

// learn takes in what the waiter says of sidecars.
func (r *Rollout) learn(w *waiter, q Question) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range q.Held {
		if len(w.held) >= maxAsked {
			break
		}
		w.held[h.Holder] = max(w.held[h.Holder], h.Ordinal)
		if s := r.find(h.Holder); s != nil && h.Ordinal > s.ordinal {
			if _, ok := w.lacking[s]; ok {
				w.found(s)
			}
		}
	}
	for _, h := range q.Elsewhere {
		if _, again := w.asked[h]; again || len(w.asked) >= maxAsked {
			continue
		}
		w.asked[h] = -1
		if s := r.find(h); s != nil && r.applied >= w.revision && r.holds(s) >= w.revision {
			w.answer(s)
		}
	}
}

// find returns the sidecar that h is here; nil if it is not known.
func (r *Rollout) find(h Holder) *sidecar {
	if s := r.byAgent[h.Agent][h.Instance]; s != nil && s.key == h.Key {
		return s
	}
	return nil
}

// look decides whether the waiter's revision is in force. If it is not, next is
// how long until the first of those waited for is past its bound, and advanced
// is closed when the answer may change because another revision was applied; it
// is nil if that does not matter.
func (r *Rollout) look(w *waiter) (a Answer, next time.Duration, advanced <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	p := &adminv1.AwaitRevisionResponse{Revision: w.revision}
	a.Progress, next = p, progressEvery
	applied := r.applied >= w.revision
	everywhere := now.Sub(w.since) >= progressEvery // who has a stream here may have moved all the same
	var safeIn time.Duration
	lacking := make(map[*sidecar]struct{})
	for _, s := range r.sidecars(now) {
		h := s.holder()
		if applied && r.holds(s) >= w.revision {
			if s.stream != "" { // who has none is counted where he is
				p.Applied++
			}
			delete(w.late, h)
			continue
		}
		if w.held[h] > s.ordinal {
			delete(w.late, h)
			continue
		}
		left := s.freshUntil.Sub(now)
		if left <= 0 {
			continue // it cannot act, and gets no freshness before it holds all
		}
		switch {
		case s.stream == "":
			p.CutOff++
		case len(s.refusals) > 0:
			p.Refused++
		default:
			p.Pending++
		}
		if len(p.GetStragglers()) < maxStragglers {
			p.Stragglers = append(p.Stragglers, r.status(s, now))
		}
		if _, named := w.left[h]; !named && applied && (everywhere || s.stream == "") && len(a.Left) < maxHolders && len(w.left) < maxAsked {
			w.left[h] = struct{}{}
			a.Left = append(a.Left, h)
		}
		lacking[s], w.late[h] = struct{}{}, struct{}{}
		next, safeIn = min(next, left), max(safeIn, left)
	}
	// Of those who were late, whoever is not lacking was cut off by its bound.
	p.CutOff += int32(len(w.late) - len(lacking)) //nolint:gosec // fewer than there are sidecars
	p.SafeIn = durationpb.New(safeIn)
	if !applied {
		return a, progressEvery, r.advanced
	}
	for h := range w.asked { // those whom the revision did not touch
		if s := r.find(h); w.lacking == nil && s != nil && r.holds(s) >= w.revision {
			w.answer(s)
		}
	}
	w.lacking = lacking
	if len(lacking) == 0 {
		p.InForce, p.SafeIn = true, nil
	}
	return a, max(next, deadlineEvery), nil
}
