// Package rollout knows which sidecar holds which revision and how long each may
// act on what it holds, and from that when a revision is in force.
//
// Everything that bears on the answer is decided under one lock: freshness is
// granted only to a sidecar that holds all that this process has applied, and a
// revision is declared in force only after it was applied. So no sidecar can be
// granted freshness below a revision that was declared in force.
package rollout

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
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
)

// Config is what a rollout is built from.
type Config struct {
	// Bound is how long a sidecar may act once it was granted freshness.
	Bound time.Duration
	// Earlier is the longest bound that an earlier process over the same store
	// may have granted; 0 if there never was one. Until it has passed, sidecars
	// that this process knows nothing of may be fresh.
	Earlier time.Duration
	// Log is where refusals are noted.
	Log *slog.Logger
}

// A Key is the digest of the key that a sidecar proved to hold.
type Key [sha256.Size]byte

// A Stream is a stream that a sidecar opened.
type Stream struct {
	// ID is the stream's random id.
	ID string
	// Agent is the sidecar's agent by resource name, from its certificate.
	Agent string
	// Key is the sidecar's key, from its certificate.
	Key Key
	// Instance is the sidecar's random id, made at each boot.
	Instance string
	// Version is the sidecar's build version, by its own account.
	Version string
}

// A Rollout is safe for concurrent use. Create it with [New].
type Rollout struct{ cfg Config }

// New returns a rollout of no sidecars, at revision 0.
func New(cfg Config) *Rollout { return &Rollout{cfg: cfg} }

// Publish notes that this process has applied the revision, and whose sets
// changed with it, by the agents' resource names. Revisions are published in
// order, and none that changes a set is left out.
func (r *Rollout) Publish(revision int64, agents []string) {}

// Open notes a stream. An earlier one of the same instance is no longer heard.
// It fails with ErrForeignKey.
func (r *Rollout) Open(s Stream) error { return nil }

// Close notes the end of a stream. What its sidecar may still do remains known.
func (r *Rollout) Close(stream string) {}

// Acknowledge notes that the stream has acknowledged everything of its set up
// to the revision, and refuses nothing.
func (r *Rollout) Acknowledge(stream string, revision int64) {}

// Refuse notes all that the stream refuses, once it refuses anything. The next
// Acknowledge ends it.
func (r *Rollout) Refuse(stream string, refusals []*adminv1.Refusal) {}

// Grant lets the sidecar of the stream act for one more bound from now, once it
// holds everything that was applied and that is no less than revision; until
// then it waits. It returns the revision held and the bound. Errors are
// ErrNoStream, or ErrNotHolding when ctx ends first.
func (r *Rollout) Grant(ctx context.Context, stream, agent string, key Key, revision int64) (held int64, bound time.Duration, err error) {
	return 0, 0, ErrNoStream
}

// List returns the sidecars that are connected or may still be fresh, in order
// of agent and instance.
func (r *Rollout) List() []*adminv1.Sidecar { return nil }

// Applied returns the newest revision that was published.
func (r *Rollout) Applied() int64 { return 0 }

// Await returns nil when the revision, which the store must have reached, is in
// force: every sidecar that may be fresh holds everything of its own up to it.
// Meanwhile it calls progress, which may be nil, at once and a few times a
// second when something changed, and with in_force set before it returns nil.
// It fails with the error of progress, or of ctx when that ends first.
func (r *Rollout) Await(ctx context.Context, revision int64, progress func(*adminv1.AwaitRevisionResponse) error) error {
	return nil
}
