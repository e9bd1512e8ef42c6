package rollout

import (
	"fmt"
	"time"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// maxInstances is how many instances of an agent are remembered. One that is gone
// counts until it is forgotten.
const maxInstances = 1024

// A Stream is a stream that a sidecar opened.
type Stream struct {
	// ID is the stream's random id.
	ID string
	// Agent is the sidecar's agent by resource name, and Key its key: both from
	// its certificate.
	Agent string
	Key   Key
	// Instance is the sidecar's random id, made at each boot.
	Instance string
	// Version is the sidecar's build version, by its own account.
	Version string
	// Ordinal counts the streams that the instance has tried to open, to any
	// control plane, this one included; 0 if it does not say.
	Ordinal int64
	// FreshFor is for how long the sidecar may act on anything by the freshness
	// that it has, from anywhere, by its own account.
	FreshFor time.Duration
}

// Open notes a stream. An earlier one of the same instance is no longer heard.
// It fails with ErrForeignKey, ErrInstances or ErrSuperseded.
func (r *Rollout) Open(st Stream) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.byAgent[st.Agent] {
		r.prune(s, time.Now())
	}
	s := r.byAgent[st.Agent][st.Instance]
	switch {
	case s == nil && len(r.byAgent[st.Agent]) >= maxInstances:
		return fmt.Errorf("%w: wait", ErrInstances)
	case s == nil:
		// Until it acknowledges, nothing is known of what it holds.
		s = &sidecar{agent: st.Agent, instance: st.Instance, key: st.Key, touched: max(1, r.applied)}
		s.number = numberOf(s.holder())
		if r.byAgent[st.Agent] == nil {
			r.byAgent[st.Agent] = make(map[string]*sidecar)
		}
		r.byAgent[st.Agent][st.Instance] = s
	case s.key != st.Key:
		return fmt.Errorf("%w: %s", ErrForeignKey, st.Instance)
	case st.Ordinal < s.ordinal:
		return fmt.Errorf("%w: it has opened %d, and this is number %d", ErrSuperseded, s.ordinal, st.Ordinal)
	default:
		delete(r.streams, s.stream)
		close(s.moved)
	}
	s.moved = make(chan struct{})
	s.stream, s.ordinal, s.version, s.openedAt, s.ready = st.ID, st.Ordinal, st.Version, time.Now(), 0
	s.fresh(min(st.FreshFor, MaxBound))
	r.streams[st.ID] = s
	return nil
}

// Close notes the end of a stream. What its sidecar may still do stays known.
func (r *Rollout) Close(stream string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.streams[stream]
	if !ok {
		return
	}
	delete(r.streams, stream)
	s.stream, s.ready = "", 0
	r.moved(s)
	r.prune(s, time.Now())
}

// prune forgets s if it has no stream and is past its bound.
func (r *Rollout) prune(s *sidecar, now time.Time) {
	if s.stream != "" || now.Before(s.freshUntil) {
		return
	}
	delete(r.byAgent[s.agent], s.instance)
	if len(r.byAgent[s.agent]) == 0 {
		delete(r.byAgent, s.agent)
	}
}

// Acknowledge notes that the stream has acknowledged everything of its set up
// to the revision, and refuses nothing.
func (r *Rollout) Acknowledge(stream string, revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.streams[stream]
	if !ok || s.ready >= revision && s.refusals == nil {
		return
	}
	s.ready, s.refusals, s.ackedAt = max(s.ready, revision), nil, time.Now()
	s.acked = max(s.acked, revision)
	r.moved(s)
}

// Refuse notes all that the stream refuses, when it refuses anything. The next
// Acknowledge ends it.
func (r *Rollout) Refuse(stream string, refusals []*adminv1.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.streams[stream]; ok {
		s.refusals = refusals
		r.moved(s)
	}
}

// moved tells all who wait for s.
func (r *Rollout) moved(s *sidecar) {
	close(s.moved)
	s.moved = make(chan struct{})
	for w := range r.waiters {
		if r.applied < w.revision || r.holds(s) < w.revision {
			continue
		}
		if _, ok := w.lacking[s]; ok {
			w.found(s)
		}
		w.answer(s)
	}
}
