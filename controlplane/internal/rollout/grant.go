package rollout

import (
	"context"
	"fmt"
	"time"
)

// Grant lets the sidecar of the stream act for one more bound from now, once it
// holds everything that was applied and that is no less than the renewal's
// revision; until then it waits. It returns the revision held and the bound for
// grants that name none. The error wraps ErrNoStream, or ErrNotHolding if ctx ends first.
func (r *Rollout) Grant(ctx context.Context, ask Renewal) (held int64, bound time.Duration, err error) {
	for {
		held, retry, err := r.tryGrant(ask)
		if err == nil {
			return held, r.bound, nil
		}
		if retry == nil {
			return 0, 0, err
		}
		select {
		case <-retry.moved:
		case <-retry.advanced:
		case <-ctx.Done():
			return 0, 0, err
		}
	}
}

// A retry says when a renewal that was not granted may be.
type retry struct{ moved, advanced <-chan struct{} }

// tryGrant grants a renewal now, or says why not and, if that can change, when
// to try again.
func (r *Rollout) tryGrant(ask Renewal) (held int64, again *retry, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.streams[ask.Stream]
	if !ok || s.agent != ask.Agent || s.key != ask.Key {
		return 0, nil, fmt.Errorf("%w: open another", ErrNoStream)
	}
	again = &retry{moved: s.moved, advanced: r.advanced}
	switch {
	case len(s.refusals) > 0:
		return 0, again, fmt.Errorf("%w: it refused %s (%s) and %d others",
			ErrNotHolding, s.refusals[0].GetName(), s.refusals[0].GetDetail(), len(s.refusals)-1)
	case r.applied < ask.Revision:
		return 0, again, fmt.Errorf("%w: this control plane is at revision %d and the store at %d", ErrNotHolding, r.applied, ask.Revision)
	case s.ready < s.touched:
		return 0, again, fmt.Errorf("%w: it acknowledged revision %d on this stream, and %d changed its set", ErrNotHolding, s.ready, s.touched)
	}
	// Noted before the sidecar is told, so that nobody overlooks it.
	s.grantedAt = time.Now()
	return max(s.ready, r.applied), nil, nil
}
