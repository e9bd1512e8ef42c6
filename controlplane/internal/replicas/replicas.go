// Package replicas knows the control planes of one store, and from that when a
// revision is in force everywhere.
//
// # Why a revision is in force when Await says so
//
// Sidecars are let act by control planes, each of which remembers whom it let act
// (package rollout) for as long as it lives. What it knows is lost with it, or
// cannot be asked for while it does not answer. So every process that may grant
// freshness has a presence in the store, under an incarnation of its own, and
// grants after one transaction, begun after the sidecar asked, has read the head
// and found its presence there and not ended ([Replicas.Head]). From this follows
// what Await builds on, R being the revision awaited and committed:
//
//  1. Freshness that a sidecar asked for after R was committed is granted only to
//     one that holds R: the head that is read is no less than R, and rollout
//     grants when the sidecar holds all up to that head. So R is in force one
//     longest bound after it was committed, whoever says what. A waiter counts
//     that from when it began, on its own clock; clocks' readings are never
//     compared between machines.
//  2. Freshness that was asked for before was granted under a presence that was
//     there, not ended, when R was committed. The waiter reads all presences
//     after that, in one transaction. A presence that it does not find was
//     removed, which happens only when it had ended and [rollout.MaxBound] had
//     passed since: whatever was granted under it has run out.
//  3. A presence that is not ended is asked: the process of that incarnation, and
//     no other, answers that all whom it ever let act hold R or are past their
//     bounds: what it let them do ends at the longest bound that it named when it
//     did, whatever they receive since. It says so only after it has applied R,
//     after which it grants nothing below R: its answer is final, and the waiter
//     need not ask again.
//  4. A presence that is ended has granted nothing by any read that began after
//     its end. So it is settled one bound after this process first saw it ended,
//     again on its own clock: the longest one then, as nobody acts by an answer of
//     before for longer, also not on a grant that comes later and names more. If
//     its process lives, which happens to one that was taken for dead, it is asked
//     all the same.
//  5. The longest bound is the longest default of all presences or that of the
//     head, whichever is longer. The head's was raised by the change that put the
//     grant, before any sidecar could hold it, and is lowered only after a
//     revision without such a grant was in force and none was put since: whoever
//     acts on a grant that named a longer one would lack that revision, and whoever
//     holds it acts no longer than what it names by an answer of before.
//  6. A sidecar that moved may be believed to hold R by the control plane that it
//     left, which knows nothing of what it got since. The one that it came to
//     counts it as fresh, for as long as it says that it is, before it sends it
//     anything; so there it is waited for, whatever the first one says. In between
//     it reads the head, and so finds its own presence not ended: if it ends, it
//     does later than the sidecar asked for its freshness, and 4 holds for that too.
//  7. A sidecar that holds R by the word of whoever saw it on a later stream is
//     settled for all who saw it on an earlier one: an instance never goes back to
//     an older set. The waiter carries the names between them.
//
// A process that dies between reading and granting, is stopped for minutes, or
// loses the store changes nothing in this: what it grants counts from when the
// sidecar asked, which was before the read. One that is cut off from the store
// grants nothing. Marking a presence ended is therefore safe at any time, for
// anybody: a process that finds itself marked announces itself under another
// incarnation, keeps what it remembers, and goes on.
package replicas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// ErrIncarnation is what a peer fails with that is not, and never was, of the
// incarnation it is asked as.
var ErrIncarnation = errors.New("another incarnation")

// errAnnouncing reports that this process may not grant freshness for the moment.
var errAnnouncing = errors.New("this control plane announces itself anew, as it was taken for dead")

// Announcements keeps who may grant freshness. See package store for the contracts.
type Announcements interface {
	PutPresence(ctx context.Context, p *storev1.Presence) error
	EndPresence(ctx context.Context, incarnation string) error
	DeletePresence(ctx context.Context, incarnation string) error
}

// Reader reads the store linearizably. See package store for the contracts.
type Reader interface {
	Beat(ctx context.Context, incarnation string) (store.Head, error)
	Presences(ctx context.Context) (store.Head, []*storev1.Presence, error)
}

// Bounds is the store's account of the longest bound that a grant names. See
// package store for the contracts.
type Bounds interface {
	NamedBound(ctx context.Context) (store.Head, time.Duration, error)
	LowerBound(ctx context.Context, since store.Head, to time.Duration) error
}

// Store is what is needed of the store. Safe for concurrent use.
type Store interface {
	Announcements
	Reader
	Bounds
}

// A Peer is a connection to another control plane. Safe for concurrent use. Calls
// fail with ErrIncarnation if the process is another one than is meant.
type Peer interface {
	// AwaitHere is [rollout.Rollout.AwaitHere] there. It does not return before
	// tell does, and fails when the connection is lost.
	AwaitHere(ctx context.Context, incarnation string, revision int64, questions <-chan rollout.Question, tell func(rollout.Answer) error) error
	// ListHere returns what it tells of itself.
	ListHere(ctx context.Context, incarnation string) (Listing, error)
	// Close ends the connection.
	Close() error
}

// Config is what Replicas is built from. All but the addresses and Meter are
// needed.
type Config struct {
	Store   Store
	Rollout *rollout.Rollout
	// Bound is how long this process grants freshness for where a grant names no
	// bound.
	Bound time.Duration
	// Name is this process's name, for people.
	Name string
	// Address is where others reach this process, host:port. Empty means that
	// the store is this process's alone: whoever else is present has ended.
	Address string
	// SidecarAddress and EnrollAddress are where sidecars reach this process, and
	// where they enrol at it, host:port.
	SidecarAddress, EnrollAddress string
	// Dial returns a connection to the control plane at an address, without
	// waiting for it.
	Dial func(address string) (Peer, error)
	Log  *slog.Logger
	// Meter makes the instruments; nil measures nothing.
	Meter metric.Meter
}

// An end is of a presence: when this process first saw it, and when all that was
// granted under it has run out by then.
type end struct{ seen, runOut time.Time }

// Replicas is safe for concurrent use. Create it with [New].
type Replicas struct {
	cfg     Config
	took    metric.Float64Histogram
	anew    chan struct{} // sent when this process was fenced
	started *timestamppb.Timestamp

	mu sync.Mutex
	// incarnation is this process's; empty while it may grant nothing.
	incarnation string
	// own are all that it ever was.
	own map[string]struct{}
	// ended are the presences that this process saw ended.
	ended map[string]end
	// peers is what is known of the others, by incarnation.
	peers map[string]*contact
	conns map[string]Peer // by address
	// taken is how often who was at an address was taken for dead in a row.
	taken map[string]int
	// looked is when Run last read the presences, and read when anything here last
	// read the store linearizably.
	looked, read time.Time
	// last are the presences and the head as of the last look.
	last []*storev1.Presence
	head store.Head
}

// New returns replicas that have not announced themselves: [Replicas.Announce]
// comes next.
func New(cfg Config) (*Replicas, error) {
	r := &Replicas{
		cfg: cfg, anew: make(chan struct{}, 1), started: timestamppb.Now(),
		own: make(map[string]struct{}), ended: make(map[string]end),
		peers: make(map[string]*contact), conns: make(map[string]Peer), taken: make(map[string]int),
	}
	if cfg.Meter != nil {
		var err error
		r.took, err = cfg.Meter.Float64Histogram("reeve.rollout.duration", metric.WithUnit("s"),
			metric.WithDescription("How long it took until an awaited revision was in force, by outcome."),
			metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900))
		if err != nil {
			return nil, fmt.Errorf("make instruments: %w", err)
		}
	}
	return r, nil
}

// Run keeps this process announced, looks after the others, and tidies up, until
// ctx ends. It then returns nil, when nothing that it began runs any more.
func (r *Replicas) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.look(ctx) })
	g.Go(func() error { return r.lower(ctx) })
	err := g.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for address, conn := range r.conns {
		err = errors.Join(err, conn.Close())
		delete(r.conns, address)
	}
	return err
}

// pause waits for d, or until ctx ends and says why.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// measure notes how long a wait took.
func (r *Replicas) measure(ctx context.Context, w *wait, err error) {
	if r.took == nil {
		return
	}
	outcome := "acknowledged"
	switch {
	case err != nil:
		outcome = "abandoned"
	case w.waitedOut:
		outcome = "waited_out"
	}
	r.took.Record(context.WithoutCancel(ctx), time.Since(w.start).Seconds(), metric.WithAttributes(attribute.String("outcome", outcome)))
}
