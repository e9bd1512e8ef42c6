package claims

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

const (
	// sweepEvery is how often there is a sweep, at the latest. Control planes that
	// start together do not sweep together.
	sweepEvery = time.Minute
	// sessionKept is how long a session that is over is still there: sidecars end
	// it by their own clocks, and say why a call in it is denied.
	sessionKept = time.Minute
	// sweepWrites is how many resources one change removes: other changes wait for
	// it.
	sweepWrites = 50
	// drawnEvery is every how many sweeps there is one of counts, which reads all
	// of them, sweepReads at once.
	drawnEvery = 60
	sweepReads = 500
)

// A sweepable is what a sweep needs of the store. See package store for the
// contracts.
type sweepable interface {
	reader
	Update(ctx context.Context, meta store.Meta, change func(*store.Tx) error) (int64, error)
	Drawns(ctx context.Context, after store.Count, limit int) (all []store.Drawn, more bool, err error)
	DeleteDrawn(ctx context.Context, gone []store.Count) error
}

type reader interface {
	Get(ctx context.Context, name string) (store.Resource, error)
}

// A Sweeper removes sessions that are over, and counts of calls drawn from grants
// that are gone or by agents that are. Any number of control planes may sweep one
// store. One goroutine uses it.
type Sweeper struct {
	store sweepable
	over  func(before time.Time) []string
	now   func() time.Time
	log   *slog.Logger
}

// NewSweeper returns a sweeper of a store. over returns the names of sessions that
// were over before a time; it may be somewhat behind, for the store is asked
// before anything is removed. now is the wall clock.
func NewSweeper(s sweepable, over func(before time.Time) []string, now func() time.Time, log *slog.Logger) *Sweeper {
	return &Sweeper{store: s, over: over, now: now, log: log}
}

// Run sweeps about every minute until ctx ends, and says why that was.
func (s *Sweeper) Run(ctx context.Context) error {
	for n := 1; ; n++ {
		timer := time.NewTimer(sweepEvery/2 + rand.N(sweepEvery/2)) //nolint:gosec // it only spreads
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		// What fails now is done by another control plane, or next time.
		err := s.sweepSessions(ctx)
		if err == nil && n%drawnEvery == 0 {
			err = s.sweepDrawn(ctx)
		}
		if err != nil && !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			s.log.WarnContext(ctx, "claims not swept", slog.Any("error", err))
		}
	}
}

// sweepSessions removes the sessions that are over.
func (s *Sweeper) sweepSessions(ctx context.Context) error {
	before := s.now().Add(-sessionKept)
	meta := store.Meta{Actor: "controlplane", Action: "controlplane.sweep", Reason: "sessions that are over"}
	for names := range slices.Chunk(s.over(before), sweepWrites) {
		removed := 0
		_, err := s.store.Update(ctx, meta, func(tx *store.Tx) error {
			removed = 0
			for _, name := range names {
				found, err := tx.Get(ctx, name)
				if errors.Is(err, store.ErrNotFound) {
					continue // another control plane was first, or somebody ended it
				}
				if err != nil {
					return err
				}
				m, ok := found.Message.(*grantv1.Session)
				if !ok || !m.GetExpireTime().AsTime().Before(before) {
					continue
				}
				if err := tx.Delete(name); err != nil {
					return err
				}
				removed++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if removed > 0 {
			s.log.DebugContext(ctx, "sessions swept", slog.Int("removed", removed))
		}
	}
	return nil
}

// sweepDrawn removes the counts that nothing can be drawn from any more.
func (s *Sweeper) sweepDrawn(ctx context.Context) error {
	for after, more := (store.Count{}), true; more; {
		var page []store.Drawn
		var err error
		// Of what was read before the page, a count in it may be newer.
		current := &incarnations{store: s.store, known: make(map[string]string)}
		if page, more, err = s.store.Drawns(ctx, after, sweepReads); err != nil {
			return err
		}
		var gone []store.Count
		for _, d := range page {
			after = d.Count
			orphaned, err := current.lack(ctx, d)
			if err != nil {
				return err
			}
			if orphaned {
				gone = append(gone, d.Count)
			}
		}
		more = more && len(page) > 0
		for few := range slices.Chunk(gone, sweepWrites) {
			if err := s.store.DeleteDrawn(ctx, few); err != nil {
				return err
			}
		}
	}
	return nil
}

// incarnations knows those that are stored.
type incarnations struct {
	store reader
	known map[string]string // by resource name; empty for what is not there
}

// lack reports whether the grant, or the agent, of a count is gone or was made
// anew.
func (i *incarnations) lack(ctx context.Context, d store.Drawn) (bool, error) {
	uid, err := i.of(ctx, d.GetGrant())
	if err != nil || uid != d.GrantUID {
		return err == nil, err
	}
	if d.AgentUID == "" {
		return false, nil
	}
	uid, err = i.of(ctx, d.GetAgent())
	return err == nil && uid != d.AgentUID, err
}

func (i *incarnations) of(ctx context.Context, name string) (string, error) {
	if uid, ok := i.known[name]; ok {
		return uid, nil
	}
	r, err := i.store.Get(ctx, name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	m, _ := r.Message.(interface{ GetUid() string })
	uid := ""
	if m != nil {
		uid = m.GetUid()
	}
	i.known[name] = uid
	return uid, nil
}
