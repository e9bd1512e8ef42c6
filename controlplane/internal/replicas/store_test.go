package replicas

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// storeOf is the store as one control plane reaches it.
type storeOf struct{ n *node }

// do does something with the store at one moment between the call and the return.
func (s storeOf) do(ctx context.Context, what func() error) error {
	w := s.n.w
	w.delay()
	stuck := func() bool { return s.n.paused || s.n.cut }
	timed, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := w.while(timed, stuck); err != nil {
		return cmp.Or(ctx.Err(), fmt.Errorf("%w: cut off", store.ErrOffline))
	}
	w.mu.Lock()
	err := what()
	w.mu.Unlock()
	w.delay()
	if w.while(ctx, stuck) != nil {
		return ctx.Err()
	}
	return err
}

func (s storeOf) PutPresence(ctx context.Context, p *storev1.Presence) error {
	return s.do(ctx, func() error {
		if old := s.n.w.presences[p.GetIncarnation()]; old != nil && !proto.Equal(old, p) {
			return store.ErrExists
		}
		s.n.w.presences[p.GetIncarnation()] = proto.CloneOf(p)
		return nil
	})
}

func (s storeOf) EndPresence(ctx context.Context, incarnation string) error {
	return s.do(ctx, func() error {
		if p := s.n.w.presences[incarnation]; p != nil && p.GetEndTime() == nil {
			p.EndTime = timestamppb.Now()
		}
		return nil
	})
}

func (s storeOf) DeletePresence(ctx context.Context, incarnation string) error {
	return s.do(ctx, func() error {
		if p := s.n.w.presences[incarnation]; p != nil && p.GetEndTime() == nil {
			return store.ErrConflict
		}
		delete(s.n.w.presences, incarnation)
		return nil
	})
}

func (s storeOf) Beat(ctx context.Context, incarnation string) (h store.Head, err error) {
	err = s.do(ctx, func() error {
		h = s.n.w.head
		if p := s.n.w.presences[incarnation]; p == nil || p.GetEndTime() != nil {
			return store.ErrFenced
		}
		return nil
	})
	return h, err
}

func (s storeOf) Presences(ctx context.Context) (h store.Head, all []*storev1.Presence, err error) {
	err = s.do(ctx, func() error {
		h = s.n.w.head
		for _, p := range s.n.w.presences {
			all = append(all, proto.CloneOf(p))
		}
		return nil
	})
	return h, all, err
}

func (s storeOf) NamedBound(ctx context.Context) (h store.Head, longest time.Duration, err error) {
	err = s.do(ctx, func() error {
		h = s.n.w.head
		named := make(map[string]time.Duration)
		for _, c := range s.n.w.changes {
			named[c.agent] = c.bound
		}
		for _, d := range named {
			longest = max(longest, d)
		}
		return nil
	})
	return h, longest, err
}

func (s storeOf) LowerBound(ctx context.Context, since store.Head, to time.Duration) error {
	return s.do(ctx, func() error {
		w := s.n.w
		for _, c := range w.changes {
			if c.revision > since.Revision && c.bound > 0 {
				return store.ErrConflict
			}
		}
		if w.head.LongestBound != since.LongestBound {
			return store.ErrConflict
		}
		w.head.Revision++
		w.head.Sequence++
		w.head.LongestBound = to
		w.tell()
		return nil
	})
}
