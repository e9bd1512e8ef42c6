package replicas

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

const (
	// lookEvery is how often the presences are read: how long this process may
	// go on without knowing that it was taken for dead, if nobody asks it for
	// freshness, and how late it sees that another has ended.
	lookEvery = time.Second
	// sleptAfter is how long after the last look this process must have been
	// stopped, or cut off from the store.
	sleptAfter = 5 * time.Second
	// probeEvery is how often a peer is asked whether it is there, and
	// probeWithin how long it may take.
	probeEvery  = 3 * time.Second
	probeWithin = 2 * time.Second
	// deadAfter is after how long without an answer a peer is marked ended, plus
	// up to half of it, so that not all do it at once. It doubles each time in a
	// row for an address, up to deadAtMost: who cannot be reached from here may
	// be well all the same.
	deadAfter  = 30 * time.Second
	deadAtMost = 10 * time.Minute
	// lowerEvery is how often it is looked whether the longest bound is longer
	// than what grants name, plus up to half of it.
	lowerEvery = 30 * time.Second
)

// look reads the presences again and again, and does what follows from them.
func (r *Replicas) look(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := r.lookOnce(ctx, &probes); err != nil && ctx.Err() == nil {
			r.cfg.Log.WarnContext(ctx, "control planes not looked after", slog.Any("error", err))
		}
		select {
		case <-ticker.C:
		case <-r.anew:
			r.cfg.Log.WarnContext(ctx, "this control plane was taken for dead, and announces itself anew")
			if err := r.announce(ctx); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // the process ends
				}
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Replicas) lookOnce(ctx context.Context, probes *sync.WaitGroup) error {
	r.mu.Lock()
	current := r.incarnation // as of before the reading
	r.mu.Unlock()
	head, present, err := r.cfg.Store.Presences(ctx)
	if err != nil {
		return err
	}
	r.note(head, present)
	r.wakeUp()
	var errs []error
	fenced := current != ""
	for _, p := range present {
		incarnation := p.GetIncarnation()
		switch {
		case p.GetEndTime() != nil:
			if r.longGone(incarnation) {
				errs = append(errs, r.cfg.Store.DeletePresence(ctx, incarnation))
			}
		case incarnation == current:
			fenced = false
		case r.isOwn(incarnation):
			errs = append(errs, r.endFormer(ctx, incarnation))
		case r.isDead(p):
			r.cfg.Log.WarnContext(ctx, "control plane does not answer and is marked ended",
				slog.String("replica", p.GetReplica()), slog.String("address", p.GetAddress()))
			if p.GetAddress() == r.cfg.Address {
				r.cfg.Log.WarnContext(ctx, "another control plane has this one's address: each needs its own --peer-advertise",
					slog.String("replica", p.GetReplica()), slog.String("address", p.GetAddress()))
			}
			errs = append(errs, r.cfg.Store.EndPresence(ctx, incarnation))
		default:
			r.probe(ctx, probes, p)
		}
	}
	if fenced {
		r.fenced(current)
	}
	return errors.Join(errs...)
}

// note takes in presences that were just read.
func (r *Replicas) note(head store.Head, present []*storev1.Presence) {
	r.mu.Lock()
	now := time.Now()
	there := make(map[string]struct{}, len(present))
	addresses := make(map[string]struct{})
	for _, p := range present {
		incarnation := p.GetIncarnation()
		there[incarnation] = struct{}{}
		_, own := r.own[incarnation]
		switch {
		case p.GetEndTime() != nil:
			if _, ok := r.ended[incarnation]; !ok {
				longest := max(p.GetBound().AsDuration(), head.LongestBound)
				r.ended[incarnation] = end{seen: now, runOut: now.Add(rollout.Outlast(longest))}
			}
			delete(r.peers, incarnation)
		case !own && r.peers[incarnation] == nil:
			patience := min(deadAfter<<min(r.taken[p.GetAddress()], 8), deadAtMost)
			r.peers[incarnation] = &contact{heard: now, patience: patience + rand.N(patience/2)} //nolint:gosec // it only spreads
		}
		if p.GetEndTime() == nil || now.Sub(r.ended[incarnation].seen) < deadAfter {
			addresses[p.GetAddress()] = struct{}{}
		}
	}
	for incarnation := range r.ended {
		if _, ok := there[incarnation]; !ok {
			delete(r.ended, incarnation)
			if incarnation != r.incarnation {
				delete(r.own, incarnation)
			}
		}
	}
	for incarnation := range r.peers {
		if _, ok := there[incarnation]; !ok {
			delete(r.peers, incarnation)
		}
	}
	var unused []Peer
	for address, conn := range r.conns {
		if _, ok := addresses[address]; !ok {
			unused = append(unused, conn)
			delete(r.conns, address)
			delete(r.taken, address)
		}
	}
	r.last, r.head, r.read = present, head, now
	r.mu.Unlock()
	for _, conn := range unused {
		_ = conn.Close() // nobody is there to be told anything
	}
}

// longGone reports whether whatever an ended incarnation granted has run out,
// also by a bound that a grant is yet to name.
func (r *Replicas) longGone(incarnation string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.ended[incarnation]
	return ok && time.Since(e.seen) >= rollout.Outlast(rollout.MaxBound)
}

// endFormer marks an incarnation ended that this process no longer is.
func (r *Replicas) endFormer(ctx context.Context, incarnation string) error {
	r.mu.Lock()
	current := r.incarnation == incarnation
	r.mu.Unlock()
	if current {
		return nil
	}
	return r.cfg.Store.EndPresence(ctx, incarnation)
}

// lower lowers the head's longest bound once no sidecar can act on a grant that
// named it.
func (r *Replicas) lower(ctx context.Context) error {
	for pause(ctx, lowerEvery+rand.N(lowerEvery/2)) == nil { //nolint:gosec // it only spreads
		r.mu.Lock()
		longest := r.head.LongestBound
		r.mu.Unlock()
		if longest == 0 {
			continue
		}
		since, named, err := r.cfg.Store.NamedBound(ctx)
		if err == nil && named < since.LongestBound {
			// The others may be at it too; one of them is enough.
			if err = r.Await(ctx, since.Revision, nil); err == nil {
				err = r.cfg.Store.LowerBound(ctx, since, named)
			}
		}
		if err != nil && !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			r.cfg.Log.WarnContext(ctx, "longest bound not lowered", slog.Any("error", err))
		}
	}
	return nil
}
