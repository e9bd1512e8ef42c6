package rollout

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// maxRefusals is how many of its refusals are told of a sidecar. It chooses how
// many there are and what they say, and must not make what is told of all too long.
const maxRefusals = 16

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

// sidecars returns those who are connected or may be fresh, and forgets those who
// are gone for good.
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

// holder tells s from all others, also when it was forgotten and came back.
func (s *sidecar) holder() Holder {
	return Holder{Agent: s.agent, Instance: s.instance, Key: s.key}
}

func (r *Rollout) status(s *sidecar, now time.Time) *adminv1.Sidecar {
	m := &adminv1.Sidecar{
		Agent: s.agent, Instance: s.instance, Version: s.version, Replica: r.replica,
		Connected: s.stream != "", Revision: s.acked, Refusals: s.refusals[:min(len(s.refusals), maxRefusals)],
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

// Waiters returns how many wait for a revision now.
func (r *Rollout) Waiters() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiters)
}
