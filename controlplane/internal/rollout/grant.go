package rollout

import (
	"context"
	"fmt"
	"time"
)

// A Freshness is what a sidecar was granted.
type Freshness struct {
	// Held is the revision that it holds.
	Held int64
	// Bound is for how long it may act on grants that name no bound, and Longest
	// the longest bound that a grant of the set that it holds names; 0 if none does.
	// It must not act on anything for longer than both.
	Bound, Longest time.Duration
}

// Grant lets the sidecar of the stream act for one more bound from now, once it
// holds everything that was applied and that is no less than the renewal's
// revision; until then it waits. The error wraps ErrNoStream, or ErrNotHolding if
// ctx ends first.
func (r *Rollout) Grant(ctx context.Context, ask Renewal) (Freshness, error) {
	for {
		granted, retry, err := r.tryGrant(ask)
		if err == nil {
			return granted, nil
		}
		if retry == nil {
			return Freshness{}, err
		}
		select {
		case <-retry.moved:
		case <-retry.advanced:
		case <-ctx.Done():
			return Freshness{}, err
		}
	}
}

// A retry says when a renewal that was not granted may be.
type retry struct{ moved, advanced <-chan struct{} }

// tryGrant grants a renewal now, or says why not and, if that can change, when
// to try again.
func (r *Rollout) tryGrant(ask Renewal) (granted Freshness, again *retry, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.streams[ask.Stream]
	if !ok || s.agent != ask.Agent || s.key != ask.Key {
		return granted, nil, fmt.Errorf("%w: open another", ErrNoStream)
	}
	again = &retry{moved: s.moved, advanced: r.advanced}
	switch {
	case len(s.refusals) > 0:
		return granted, again, fmt.Errorf("%w: it refused %s (%s) and %d others",
			ErrNotHolding, s.refusals[0].GetName(), s.refusals[0].GetDetail(), len(s.refusals)-1)
	case r.applied < ask.Revision:
		return granted, again, fmt.Errorf("%w: this control plane is at revision %d and the store at %d", ErrNotHolding, r.applied, ask.Revision)
	case s.ready < s.touched:
		return granted, again, fmt.Errorf("%w: it acknowledged revision %d on this stream, and %d changed its set", ErrNotHolding, s.ready, s.touched)
	}
	// Noted before the sidecar is told, so that nobody overlooks it.
	granted = Freshness{Held: max(s.ready, r.applied), Bound: r.bound, Longest: r.bounds[s.agent]}
	s.fresh(max(granted.Bound, granted.Longest))
	return granted, nil, nil
}
