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
// the freshness that it has, but no longer than the longest bound that the answer
// names, which is that of the set that it held or the default. So when freshness
// is granted it is known until when it lasts, whatever the sidecar receives since,
// from whom. Who opens a stream with freshness from elsewhere says how long that
// lasts, and counts as if it had been granted here: whoever granted it may not know
// of a set that the sidecar got between two that it applied at once.
package rollout

import (
	"crypto/sha256"
	"errors"
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
	// ErrSuperseded: the instance has opened a later stream.
	ErrSuperseded = errors.New("sidecar has opened a later stream")
	// ErrInstances: the agent has more instances that may be fresh than can be
	// remembered.
	ErrInstances = errors.New("too many instances of the agent may be fresh")
)

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

// A Holder is one sidecar instance, to those who do not serve it too.
type Holder struct {
	// Agent is its agent by resource name.
	Agent string
	// Instance is its random id, and Key the key that goes with it.
	Instance string
	Key      Key
}

// A Sighting is a sidecar as it was seen on one of its streams.
//
// What a control plane knows of a sidecar it knows by the stream that the sidecar
// has, or had, to it. If the sidecar has opened a later one elsewhere, it may have
// got there what this one knows nothing of, while the end of its stream here was
// not noticed yet. So only who saw it last can speak for it.
type Sighting struct {
	Holder
	// Ordinal counts the instance's streams; see [Stream].
	Ordinal int64
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
	// number tells it from others, where that bears on counts only.
	number uint64

	// stream is the newest open one, and ready what was acknowledged on it; a
	// sidecar that came back must show again that it holds everything before it
	// is granted freshness.
	stream   string
	ordinal  int64
	openedAt time.Time
	ready    int64
	// refusals is what it refused and has not accepted since, on any stream.
	refusals []*adminv1.Refusal
	// acked is the newest revision acknowledged on any stream, and touched the
	// newest that changed the agent's set: with acked at or above it, the sidecar
	// holds everything applied.
	acked, touched int64
	ackedAt        time.Time
	// freshUntil is when it is past its bound for sure, by all that it was granted
	// here and that it came with.
	freshUntil time.Time
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
		bound:    cfg.Bound,
		replica:  cfg.Replica,
		advanced: make(chan struct{}),
		bounds:   make(map[string]time.Duration),
		byAgent:  make(map[string]map[string]*sidecar),
		streams:  make(map[string]*sidecar),
		waiters:  make(map[*waiter]struct{}),
	}
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
		}
	}
	r.applied = revision
	close(r.advanced)
	r.advanced = make(chan struct{})
}

// fresh notes that s may act for d from now.
func (s *sidecar) fresh(d time.Duration) {
	if until := time.Now().Add(Outlast(d)); until.After(s.freshUntil) {
		s.freshUntil = until
	}
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
