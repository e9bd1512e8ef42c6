// Package rollout knows which sidecar holds which revision and how long each may
// act on what it holds, and from that when a revision is in force.
//
// Whatever bears on the answer is decided under one lock: freshness is granted
// only to a sidecar that holds all that this process has applied, and a revision
// is declared in force only after it was applied. So no sidecar can be granted
// freshness below a revision that was declared in force before.
package rollout

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// What callers branch on.
var (
	// ErrForeignKey: the instance is known to hold another key.
	ErrForeignKey = errors.New("instance belongs to another key")
	// ErrNoStream: this process does not hold the stream, or it is another's.
	ErrNoStream = errors.New("stream is not held here")
	// ErrNotHolding: the sidecar does not hold everything that was applied, or
	// refuses some of it.
	ErrNotHolding = errors.New("sidecar does not hold everything")
	// ErrInstances: the agent has more instances that may be fresh than can be
	// remembered.
	ErrInstances = errors.New("too many instances of the agent may be fresh")
)

// maxInstances is how many instances of an agent are remembered. One that is gone
// counts until it is stale.
const maxInstances = 1024

// Config is what a rollout is built from.
type Config struct {
	// Bound is how long a sidecar may act once it was granted freshness.
	Bound time.Duration
	// Earlier is the longest bound that an earlier process over the same store
	// may have granted; 0 if there never was one. Until it has passed, sidecars
	// that this process knows nothing of may be fresh.
	Earlier time.Duration
}

// A Key is the digest of the key that a sidecar proved to hold.
type Key [sha256.Size]byte

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
}

// A Renewal asks for freshness.
type Renewal struct {
	// Stream is the stream's id, Agent and Key who asks, from the certificate.
	Stream, Agent string
	Key           Key
	// Revision is one that the store had reached when the request had arrived.
	Revision int64
}

// A Rollout is safe for concurrent use. Create it with [New].
type Rollout struct {
	bound time.Duration

	mu sync.Mutex
	// applied is the newest revision published, and advanced is closed when it
	// grows.
	applied  int64
	advanced chan struct{}
	// unknown is until when sidecars that are not known here may be fresh.
	unknown time.Time
	byAgent map[string]map[string]*sidecar // by agent and instance
	streams map[string]*sidecar
	waiters map[*waiter]struct{}
}

// A sidecar is one instance. Its fields are guarded by the rollout's mu.
type sidecar struct {
	agent, instance, version string
	key                      Key

	// stream is the newest open one, and ready what was acknowledged on it; a
	// sidecar that came back must show again that it holds everything before it
	// is granted freshness.
	stream   string
	openedAt time.Time
	ready    int64
	// refusals is what it refused and has not accepted since, on any stream.
	refusals []*adminv1.Refusal
	// acked is the newest revision acknowledged on any stream, and touched the
	// newest that changed the agent's set: with acked at or above it, the sidecar
	// holds everything applied.
	acked, touched int64
	ackedAt        time.Time
	// freshUntil is when the last freshness granted has ended for sure.
	freshUntil time.Time
	// moved is closed and made anew when any of this changes.
	moved chan struct{}
}

// drift is the share by which the rates of two clocks may differ.
const drift = 0.002

// outlast returns how long to count here until d has passed on a sidecar.
func outlast(d time.Duration) time.Duration {
	return d + time.Duration(float64(d)*drift)
}

// New returns a rollout of no sidecars, at revision 0.
func New(cfg Config) *Rollout {
	return &Rollout{
		bound:    cfg.Bound,
		advanced: make(chan struct{}),
		unknown:  time.Now().Add(outlast(cfg.Earlier)),
		byAgent:  make(map[string]map[string]*sidecar),
		streams:  make(map[string]*sidecar),
		waiters:  make(map[*waiter]struct{}),
	}
}

// Publish notes that this process has applied the revision, and whose sets
// changed with it, by the agents' resource names. Revisions are published in
// order, and none that changes a set is left out.
func (r *Rollout) Publish(revision int64, agents []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, agent := range agents {
		for _, s := range r.byAgent[agent] {
			// What it holds of the revisions before stays known.
			if s.acked >= s.touched {
				s.acked = max(s.acked, r.applied)
			}
			s.touched = revision
		}
	}
	r.applied = revision
	close(r.advanced)
	r.advanced = make(chan struct{})
}

// holds returns the revision up to which s holds everything of its own. Who
// refuses anything holds nothing.
func (r *Rollout) holds(s *sidecar) int64 {
	switch {
	case s.refusals != nil:
		return 0
	case s.acked >= s.touched:
		return max(s.acked, r.applied)
	default:
		return s.acked
	}
}

// Open notes a stream. An earlier one of the same instance is no longer heard.
// It fails with ErrForeignKey or ErrInstances.
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
		if r.byAgent[st.Agent] == nil {
			r.byAgent[st.Agent] = make(map[string]*sidecar)
		}
		r.byAgent[st.Agent][st.Instance] = s
	case s.key != st.Key:
		return fmt.Errorf("%w: %s", ErrForeignKey, st.Instance)
	default:
		delete(r.streams, s.stream)
		close(s.moved)
	}
	s.moved = make(chan struct{})
	s.stream, s.version, s.openedAt, s.ready = st.ID, st.Version, time.Now(), 0
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

// prune forgets s if it is gone for good.
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
		if _, ok := w.lacking[s]; ok && r.holds(s) >= w.revision {
			w.found(s)
		}
	}
}
