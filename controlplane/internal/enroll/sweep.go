package enroll

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

const (
	// tokenKept is how long after its use or its end a join token is known: until
	// then one that is used for a second key suspends its agent, and after that
	// it is refused as any unknown one.
	tokenKept = 24 * time.Hour
	// sweepEvery is how often there is a sweep, and sweepSpread within what time
	// after the start is the first, so that control planes which start together
	// do not sweep together.
	sweepEvery  = time.Hour
	sweepSpread = time.Minute
	// sweepReads is how many resources are read at once, and sweepWrites how many
	// one change removes: other changes wait for it.
	sweepReads  = 500
	sweepWrites = 20
)

// A sweepable is what a sweep needs of the store. See package store for the
// contracts.
type sweepable interface {
	List(ctx context.Context, prefix, after string, limit int, revision int64) (store.Page, error)
	Update(ctx context.Context, meta store.Meta, change func(*store.Tx) error) (int64, error)
}

// A Sweeper removes what enrolment left behind and nobody needs: join tokens that
// were used or ended a day ago, and enrolments for agents that are gone or were
// made anew. Any number of control planes may sweep one store. One goroutine uses
// it.
type Sweeper struct {
	store sweepable
	uidOf func(agent string) string
	now   func() time.Time
	log   *slog.Logger
}

// NewSweeper returns a sweeper of a store. uidOf returns the incarnation of the
// agent of a resource name, empty if there is none; it may be somewhat behind, for
// the store is asked before anything is removed. now is the wall clock.
func NewSweeper(s sweepable, uidOf func(agent string) string, now func() time.Time, log *slog.Logger) *Sweeper {
	return &Sweeper{store: s, uidOf: uidOf, now: now, log: log}
}

// Run sweeps within a minute, and then every hour, until ctx ends, and says why
// that was.
func (s *Sweeper) Run(ctx context.Context) error {
	for wait := rand.N(sweepSpread); ; wait = sweepEvery { //nolint:gosec // it only spreads
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		// What fails now is done by another control plane, or in an hour.
		if err := s.sweep(ctx); err != nil && !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			s.log.WarnContext(ctx, "enrolment not swept", slog.Any("error", err))
		}
	}
}

// A rule says what of a collection nobody needs.
type rule struct {
	prefix string
	reason string // for the change record
	// suspect tells by the resource as it was a while ago.
	suspect func(proto.Message) bool
	// useless tells within the change.
	useless func(context.Context, *store.Tx, proto.Message) (bool, error)
}

func (s *Sweeper) sweep(ctx context.Context) error {
	before := s.now().Add(-tokenKept)
	spent := func(m proto.Message) bool {
		token, ok := m.(*storev1.JoinToken)
		return ok && spentBefore(token, before)
	}
	for _, r := range []rule{
		{
			prefix: "tokens/", reason: "join tokens that were used or ended more than a day ago",
			suspect: spent,
			useless: func(_ context.Context, _ *store.Tx, m proto.Message) (bool, error) { return spent(m), nil },
		},
		{
			prefix: "enrollments/", reason: "enrolments for agents that are gone or were made anew",
			suspect: func(m proto.Message) bool {
				e, ok := m.(*storev1.Enrollment)
				return ok && s.uidOf(e.GetAgent()) != e.GetAgentUid()
			},
			useless: orphaned,
		},
	} {
		if err := s.apply(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// spentBefore reports whether a join token was used, or ended unused, before a
// time. That it was used is what tells that it is used again.
func spentBefore(t *storev1.JoinToken, before time.Time) bool {
	if t.GetUseTime() != nil {
		return t.GetUseTime().AsTime().Before(before)
	}
	return t.GetExpireTime().AsTime().Before(before)
}

// orphaned reports whether an enrolment is for an agent that is gone or was made
// anew. Suspended and retired agents are there.
func orphaned(ctx context.Context, tx *store.Tx, m proto.Message) (bool, error) {
	e, ok := m.(*storev1.Enrollment)
	if !ok {
		return false, nil
	}
	_, err := activeAgent(ctx, tx, e.GetAgent(), e.GetAgentUid())
	switch {
	case errors.Is(err, errRefused):
		return true, nil
	case errors.Is(err, errNotActive):
		return false, nil
	default:
		return false, err
	}
}

// apply removes what a rule says.
func (s *Sweeper) apply(ctx context.Context, r rule) error {
	after := ""
	for {
		page, err := s.store.List(ctx, r.prefix, after, sweepReads, 0)
		if err != nil {
			return err
		}
		var names []string
		for _, found := range page.Resources {
			after = found.Name
			if r.suspect(found.Message) {
				names = append(names, found.Name)
			}
		}
		for few := range slices.Chunk(names, sweepWrites) {
			if err := s.remove(ctx, r, few); err != nil {
				return err
			}
		}
		if !page.More || len(page.Resources) == 0 {
			return nil
		}
	}
}

// remove removes those of the named resources that nobody needs, in one change.
func (s *Sweeper) remove(ctx context.Context, r rule, names []string) error {
	meta := store.Meta{Actor: "controlplane", Action: "controlplane.sweep", Reason: r.reason}
	removed := 0
	_, err := s.store.Update(ctx, meta, func(tx *store.Tx) error {
		removed = 0
		for _, name := range names {
			found, err := tx.Get(ctx, name)
			if errors.Is(err, store.ErrNotFound) {
				continue // another control plane was first
			}
			if err != nil {
				return err
			}
			if useless, err := r.useless(ctx, tx, found.Message); err != nil {
				return err
			} else if !useless {
				continue
			}
			if err := tx.Delete(name); err != nil {
				return err
			}
			removed++
		}
		return nil
	})
	if err == nil && removed > 0 {
		s.log.InfoContext(ctx, "enrolment swept", slog.String("what", r.reason), slog.Int("removed", removed))
	}
	return err
}
