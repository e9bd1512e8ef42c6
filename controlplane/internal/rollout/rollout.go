// Package rollout knows which of the sidecars that this process serves holds
// which revision and how long each may act on what it holds, and from that when a
// revision is in force among them. What other control planes of the store served
// is the business of package replicas.
//
// Whatever bears on the answer is decided under one lock: freshness is granted
// only to a sidecar that holds all that this process has applied, and a revision
// is declared in force only after it was applied. So no sidecar can be granted
// freshness here below a revision that was declared in force before.
//
// A sidecar acts on a grant until the grant's bound has passed since it asked for
// the freshness that it has. A grant may name a bound of its own, and the sidecar
// may get the grant after the freshness, from here or, when it has moved, from
// another control plane. Therefore
//
//   - freshness granted here counts for the default bound or the longest bound of
//     any set that the sidecar may have held since, whichever is longer: Publish
//     raises it, and the acknowledgement of the newest set lowers it;
//   - whom this process granted freshness stays known for as long as any grant may
//     name, also when it is stale by the bounds of what it is known to hold;
//   - who opens a stream with freshness from elsewhere counts as if it had been
//     granted here: whoever granted it may not know of a set that the sidecar got
//     between two that it applied at once.
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
// counts until it is forgotten.
const maxInstances = 1024

// MaxBound is the longest bound that a grant or a control plane may name.
const MaxBound = 15 * time.Minute

// Config is what a rollout is built from.
type Config struct {
	// Bound is how long a sidecar may act, once it was granted freshness, on
	// grants that name no bound of their own.
	Bound time.Duration
	// Replica is the name of this process among others of its store.
	Replica string
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
	// Age is how long ago the sidecar asked, anywhere, for the freshness that it
	// has, by its own account; [MaxBound] or more if it has none.
	Age time.Duration
}

// A Holder is one sidecar instance, to those who do not serve it too.
type Holder struct {
	// Agent is its agent by resource name.
	Agent string
	// Instance is its random id, and Key the key that goes with it.
	Instance string
	Key      Key
}

// A Renewal asks for freshness.
type Renewal struct {
	// Stream is the stream's id, Agent and Key who asks, from the certificate.
	Stream, Agent string
	Key           Key
	// Revision is one that the store had reached when the request had arrived.
	Revision int64
}

// A Touched is an agent whose set changed, and the longest bound that a grant of
// its new set names; 0 if none does, or if the agent is gone.
type Touched struct {
	Agent string
	Bound time.Duration
}

// A Rollout is safe for concurrent use. Create it with [New].
type Rollout struct {
	bound   time.Duration
	replica string

	mu sync.Mutex
	// applied is the newest revision published, and advanced is closed when it
	// grows.
	applied  int64
	advanced chan struct{}
	// elsewhere is the longest default bound of any control plane.
	elsewhere time.Duration
	// bounds are the longest bounds that the newest sets name, by agent.
	bounds  map[string]time.Duration
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
	// grantedAt is when it was last granted freshness here; zero if never.
	grantedAt time.Time
	// cameAt is when it asked for the freshness that it came with.
	cameAt time.Time
	// longest is the longest bound of any set that it may hold and that this
	// process has published.
	longest time.Duration
	// moved is closed and made anew when any of this changes.
	moved chan struct{}
}

// drift is the share by which the rates of two clocks may differ.
const drift = 0.002

// Outlast returns how long to count here until d has passed on a sidecar.
func Outlast(d time.Duration) time.Duration {
	return d + time.Duration(float64(d)*drift)
}

// New returns a rollout of no sidecars, at revision 0.
func New(cfg Config) *Rollout {
	return &Rollout{
		bound:     cfg.Bound,
		replica:   cfg.Replica,
		advanced:  make(chan struct{}),
		elsewhere: cfg.Bound,
		bounds:    make(map[string]time.Duration),
		byAgent:   make(map[string]map[string]*sidecar),
		streams:   make(map[string]*sidecar),
		waiters:   make(map[*waiter]struct{}),
	}
}

// Elsewhere notes that a control plane of the store grants freshness for d.
func (r *Rollout) Elsewhere(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.elsewhere = max(r.elsewhere, d)
}

// Publish notes that this process has applied the revision, and whose sets
// changed with it. Revisions are published in order, and none that changes a set
// is left out; one that is not above the last is ignored.
func (r *Rollout) Publish(revision int64, touched []Touched) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if revision <= r.applied {
		return
	}
	for _, t := range touched {
		if t.Bound > 0 {
			r.bounds[t.Agent] = t.Bound
		} else {
			delete(r.bounds, t.Agent)
		}
		for _, s := range r.byAgent[t.Agent] {
			// What it holds of the revisions before stays known.
			if s.acked >= s.touched {
				s.acked = max(s.acked, r.applied)
			}
			s.touched = revision
			s.longest = max(s.longest, t.Bound)
		}
	}
	r.applied = revision
	close(r.advanced)
	r.advanced = make(chan struct{})
}

// freshUntil is when s is past its bound for sure, on whatever it may hold.
func (r *Rollout) freshUntil(s *sidecar) time.Time {
	until := s.cameAt.Add(Outlast(max(r.elsewhere, s.longest)))
	if s.grantedAt.IsZero() {
		return until
	}
	if here := s.grantedAt.Add(Outlast(max(r.bound, s.longest))); here.After(until) {
		return here
	}
	return until
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
		s = &sidecar{
			agent: st.Agent, instance: st.Instance, key: st.Key,
			touched: max(1, r.applied), longest: r.bounds[st.Agent],
		}
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
	if came := s.openedAt.Add(-max(0, st.Age)); came.After(s.cameAt) {
		s.cameAt = came
	}
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

// prune forgets s if it is gone for good: if it has no stream, and nothing that
// it could get from another control plane now, with a bound as long as there are,
// would make it act on what was granted here.
func (r *Rollout) prune(s *sidecar, now time.Time) {
	if s.stream != "" || now.Before(r.freshUntil(s)) ||
		!s.grantedAt.IsZero() && now.Before(s.grantedAt.Add(Outlast(MaxBound))) {
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
	if s.acked >= s.touched { // it holds the newest set, and never an older one again
		s.longest = r.bounds[s.agent]
	}
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
		if _, ok := w.asked[s.holder()]; ok {
			w.answer(s.holder())
		}
	}
}
