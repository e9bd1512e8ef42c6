package replicas

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/fault"
)

// Announce writes down that this process may grant freshness from now on, and
// that those whose place it takes have ended. It must have returned nil before
// Run, Head and Await are called.
func (r *Replicas) Announce(ctx context.Context) error {
	if err := r.announce(ctx); err != nil {
		return err
	}
	head, present, err := r.cfg.Store.Presences(ctx)
	if err != nil {
		return err
	}
	for _, p := range present {
		if p.GetEndTime() != nil || r.isOwn(p.GetIncarnation()) || r.cfg.Address != "" && p.GetAddress() != r.cfg.Address {
			continue
		}
		if err := r.cfg.Store.EndPresence(ctx, p.GetIncarnation()); err != nil {
			return err
		}
		p.EndTime = timestamppb.Now()
	}
	r.note(head, present)
	return nil
}

// announce is Announce of this process alone.
func (r *Replicas) announce(ctx context.Context) error {
	for {
		err := r.announceAs(ctx, uuid.NewString())
		// The incarnation is random, so it is this process's: an attempt that was
		// not answered succeeded, and others have marked it ended meanwhile.
		if !errors.Is(err, store.ErrExists) {
			return err
		}
	}
}

// announceAs is announce under an incarnation. The error is ErrExists if that has
// ended before this process has heard that it was announced.
func (r *Replicas) announceAs(ctx context.Context, incarnation string) error {
	p := &storev1.Presence{
		Incarnation: incarnation, CreateTime: r.started, Bound: durationpb.New(r.cfg.Bound),
		Address: r.cfg.Address, Replica: r.cfg.Name,
		SidecarAddress: r.cfg.SidecarAddress, EnrollAddress: r.cfg.EnrollAddress,
	}
	r.mu.Lock()
	r.own[p.GetIncarnation()] = struct{}{}
	r.mu.Unlock()
	for { // an attempt that was not answered may have succeeded: it must be the same again
		err := r.cfg.Store.PutPresence(ctx, p)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrOffline) {
			return err
		}
		r.cfg.Log.WarnContext(ctx, "not announced", slog.Any("error", err))
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.incarnation = p.GetIncarnation()
	return nil
}

// Head returns the store's newest revision as of some moment after the call, if
// this process may grant freshness by it. It fails if it may not.
func (r *Replicas) Head(ctx context.Context) (int64, error) {
	if fault.Off(fault.QuorumRead) {
		return r.cfg.Rollout.Applied(), nil
	}
	r.mu.Lock()
	incarnation := r.incarnation
	r.mu.Unlock()
	if incarnation == "" {
		return 0, errAnnouncing
	}
	head, err := r.cfg.Store.Beat(ctx, incarnation)
	if errors.Is(err, store.ErrFenced) {
		r.fenced(incarnation)
	}
	if err == nil {
		r.mu.Lock()
		r.read = time.Now()
		r.mu.Unlock()
	}
	return head.Revision, err
}

// fenced notes that an incarnation of this process was marked ended.
func (r *Replicas) fenced(incarnation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.incarnation != incarnation {
		return
	}
	r.incarnation = ""
	select {
	case r.anew <- struct{}{}:
	default:
	}
}

// End marks this process ended: it grants nothing more. To be called when it
// serves no sidecars any more, so that nobody takes the time to find out.
func (r *Replicas) End(ctx context.Context) error {
	r.mu.Lock()
	incarnation := r.incarnation
	r.incarnation = ""
	r.mu.Unlock()
	if incarnation == "" {
		return nil
	}
	return r.cfg.Store.EndPresence(ctx, incarnation)
}

// isOwn reports whether this process is or was of an incarnation.
func (r *Replicas) isOwn(incarnation string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.own[incarnation]
	return ok
}
