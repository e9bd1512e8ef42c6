package snapshot

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// watcher is the part of the store that is followed.
type watcher interface {
	Watch(ctx context.Context, handle func(store.Event) error) error
}

// A Follower is told of every snapshot in order, none left out, and whose sets
// changed with it, by the agents' resource names in order. It delays the next
// snapshot until it returns.
type Follower func(s *Snapshot, agents []string)

// Snapshots is the newest snapshot and who waits for the next. Create it with
// [New]. Newest and Ready are safe for concurrent use.
type Snapshots struct {
	log       *slog.Logger
	followers []Follower
	ready     chan struct{}
	builder   *builder // used by Run alone

	mu     sync.Mutex
	newest *Snapshot
	stale  chan struct{} // closed when newest no longer is
}

// New returns snapshots that know nothing yet.
func New(log *slog.Logger) *Snapshots {
	return &Snapshots{
		log:     log,
		ready:   make(chan struct{}),
		builder: newBuilder(),
		newest:  &Snapshot{views: new(table)},
		stale:   make(chan struct{}),
	}
}

// Follow has f told of snapshots. To be called before Run.
func (s *Snapshots) Follow(f Follower) { s.followers = append(s.followers, f) }

// Ready is closed when the store was loaded and the followers were told.
func (s *Snapshots) Ready() <-chan struct{} { return s.ready }

// Newest returns the newest snapshot and a channel that is closed when there is
// a newer one.
func (s *Snapshots) Newest() (*Snapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest, s.stale
}

// Run follows the store until ctx ends or the store cannot be followed.
func (s *Snapshots) Run(ctx context.Context, w watcher) error {
	err := w.Watch(ctx, func(e store.Event) error { return s.apply(ctx, e) })
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("watch store: %w", err)
}

// apply makes the snapshot after e the newest.
func (s *Snapshots) apply(ctx context.Context, e store.Event) error {
	last := s.newest // only this goroutine writes it
	if e.Revision < last.revision {
		return fmt.Errorf("apply revision %d: %d was applied", e.Revision, last.revision)
	}
	admins := last.admins
	if e.Load || touchesAdmins(e) {
		admins = maps.Clone(last.admins)
		if admins == nil {
			admins = make(map[string]*adminv1.Admin)
		}
	}
	for name, r := range e.Puts {
		if a, ok := r.Message.(*adminv1.Admin); ok {
			admins[name] = a
			continue
		}
		n, err := grant.ParseName(name)
		if err != nil || n.Collection == grant.Namespaces {
			continue // tokens, enrolments and the like concern nobody here
		}
		if err := s.builder.put(n, r); err != nil {
			return fmt.Errorf("apply revision %d: %w", e.Revision, err)
		}
	}
	for _, name := range e.Deletes {
		if isAdmin(name) {
			delete(admins, name)
		} else if n, err := grant.ParseName(name); err == nil {
			s.builder.remove(n)
		}
	}
	changed := s.builder.finish()
	next := &Snapshot{revision: e.Revision, storeID: e.Head.StoreID, views: last.views, admins: admins}
	if len(changed) > 0 {
		next.views = last.views.with(changed)
	}
	s.publish(next, slices.Sorted(maps.Keys(changed)))
	if e.Load {
		close(s.ready)
		s.log.InfoContext(ctx, "store loaded", slog.Int64("revision", e.Revision), slog.Int("agents", len(changed)))
	}
	return nil
}

func (s *Snapshots) publish(next *Snapshot, agents []string) {
	s.mu.Lock()
	stale := s.stale
	s.newest, s.stale = next, make(chan struct{})
	s.mu.Unlock()
	close(stale)
	for _, f := range s.followers {
		f(next, agents)
	}
}

func touchesAdmins(e store.Event) bool {
	for name := range e.Puts {
		if isAdmin(name) {
			return true
		}
	}
	return slices.ContainsFunc(e.Deletes, isAdmin)
}

func isAdmin(name string) bool { return strings.HasPrefix(name, "admins/") }
