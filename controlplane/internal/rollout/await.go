package rollout

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

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
)

// A waiter waits for a revision. Its fields are guarded by the rollout's mu.
type waiter struct {
	revision int64
	// lacking are those that it waits for, as of the last look at all; nil
	// before the revision is applied.
	lacking map[*sidecar]struct{}
	// none is sent when nobody lacks the revision any more.
	none chan struct{}
	// late are those that were found lacking, by agent and instance, and have not
	// been found to hold the revision since. It bears on what is told, not on
	// what is in force.
	late map[[2]string]struct{}
}

// found notes that s holds the revision now.
func (w *waiter) found(s *sidecar) {
	delete(w.lacking, s)
	if len(w.lacking) == 0 {
		select {
		case w.none <- struct{}{}:
		default:
		}
	}
}

// Await returns nil when the revision, which the store must have reached, is in
// force: every sidecar that may be fresh holds everything of its own up to it.
// Meanwhile it calls progress, which may be nil, at once and a few times a
// second, and with in_force set before it returns nil. It fails with the error
// of progress, or of ctx if that ends first.
func (r *Rollout) Await(ctx context.Context, revision int64, progress func(*adminv1.AwaitRevisionResponse) error) error {
	if progress == nil {
		progress = func(*adminv1.AwaitRevisionResponse) error { return nil }
	}
	w := &waiter{revision: revision, none: make(chan struct{}, 1), late: make(map[[2]string]struct{})}
	r.mu.Lock()
	r.waiters[w] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiters, w)
	}()
	for told := (time.Time{}); ; {
		p, next, advanced := r.look(w)
		if p.GetInForce() {
			return progress(p)
		}
		if time.Since(told) >= progressEvery {
			told = time.Now()
			if err := progress(p); err != nil {
				return err
			}
		}
		timer := time.NewTimer(min(next, progressEvery))
		select {
		case <-advanced:
		case <-w.none:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// look decides whether the waiter's revision is in force. If it is not, next is
// how long until the first of those waited for is past its bound, and advanced
// is closed when the answer may change because another revision was applied; it
// is nil if that does not matter.
func (r *Rollout) look(w *waiter) (p *adminv1.AwaitRevisionResponse, next time.Duration, advanced <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	p = &adminv1.AwaitRevisionResponse{Revision: w.revision}
	safeIn := max(0, r.unknown.Sub(now))
	if next = safeIn; next == 0 {
		next = progressEvery
	}
	lacking := make(map[*sidecar]struct{})
	for _, s := range r.sidecars(now) {
		if r.applied >= w.revision && r.holds(s) >= w.revision {
			p.Applied++
			delete(w.late, s.id())
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
		lacking[s], w.late[s.id()] = struct{}{}, struct{}{}
		next, safeIn = min(next, left), max(safeIn, left)
	}
	// Of those who were late, whoever is not lacking was cut off by its bound.
	p.CutOff += int32(len(w.late) - len(lacking)) //nolint:gosec // fewer than there are sidecars
	if r.applied < w.revision {
		p.SafeIn = durationpb.New(safeIn)
		return p, progressEvery, r.advanced
	}
	p.InForce = len(lacking) == 0 && safeIn == 0
	if !p.GetInForce() {
		w.lacking = lacking
		p.SafeIn = durationpb.New(safeIn)
	}
	return p, max(next, deadlineEvery), nil
}

// List returns the sidecars that are connected or may still be fresh, in order
// of agent and instance.
func (r *Rollout) List() []*adminv1.Sidecar {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var all []*adminv1.Sidecar
	for _, s := range r.sidecars(now) {
		all = append(all, r.status(s, now))
	}
	slices.SortFunc(all, func(a, b *adminv1.Sidecar) int {
		return cmp.Or(cmp.Compare(a.GetAgent(), b.GetAgent()), cmp.Compare(a.GetInstance(), b.GetInstance()))
	})
	return all
}

// Applied returns the newest revision that was published.
func (r *Rollout) Applied() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied
}

// sidecars returns those who are connected or may be fresh, and forgets the
// others.
func (r *Rollout) sidecars(now time.Time) []*sidecar {
	var all []*sidecar
	for _, of := range r.byAgent {
		for _, s := range of {
			if s.stream == "" && !now.Before(s.freshUntil) {
				r.prune(s, now)
				continue
			}
			all = append(all, s)
		}
	}
	return all
}

// id tells s from all others, also when it was forgotten and came back.
func (s *sidecar) id() [2]string { return [2]string{s.agent, s.instance} }

func (r *Rollout) status(s *sidecar, now time.Time) *adminv1.Sidecar {
	m := &adminv1.Sidecar{
		Agent: s.agent, Instance: s.instance, Version: s.version,
		Connected: s.stream != "", Revision: s.acked, Refusals: s.refusals,
	}
	if s.refusals == nil {
		m.Revision = r.holds(s)
	}
	if !s.ackedAt.IsZero() {
		m.AcknowledgeAge = durationpb.New(now.Sub(s.ackedAt))
	}
	if left := s.freshUntil.Sub(now); left > 0 {
		m.FreshFor = durationpb.New(left)
	}
	if m.GetConnected() {
		m.ConnectTime = timestamppb.New(s.openedAt)
	}
	return m
}
