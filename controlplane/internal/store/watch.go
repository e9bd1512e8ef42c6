package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// checkEvery is how often a quiet watch is compared with the head. Without it
// an event that is lost would be missed only when the next one comes.
const checkEvery = 5 * time.Second

// errGap reports that events were lost, so that the watch must catch up.
var errGap = errors.New("events were lost")

// Watch calls handle with all there is, then with every change in order of
// revision, one at a time. It returns when ctx ends, with its error; when handle
// fails, with that error; or when the store cannot be trusted any more
// (ErrRolledBack, ErrForeignWrite). All else (an unreachable store, a lost
// leader, a compaction, a lost event) it survives. A slow handle delays the
// events, and loses none.
func (s *Store) Watch(ctx context.Context, handle func(Event) error) error {
	w := &watch{store: s, handle: handle, every: checkEvery, held: make(map[string]int64)}
	load := true
	for {
		var err error
		if load {
			err = w.catchUp(ctx)
			load = err != nil
		}
		if !load {
			err = w.follow(ctx)
			load = errors.Is(err, errGap) || errors.Is(err, ErrCompacted)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.broken() != nil:
			return s.broken()
		case errors.Is(err, ErrForeignWrite), errors.Is(err, ErrRolledBack), errors.Is(err, errUnreadable):
			return s.condemn(ctx, fmt.Errorf("watch: %w", err))
		case w.refused != nil:
			return w.refused
		}
		s.log.WarnContext(ctx, "watch interrupted", slog.Any("error", err), slog.Int64("revision", w.last.Revision))
		if load && errors.Is(err, errGap) {
			continue
		}
		if err := pause(ctx, retryAfter); err != nil {
			return err
		}
	}
}

// watch is the state of one Watch. One goroutine uses it.
type watch struct {
	store   *Store
	handle  func(Event) error
	every   time.Duration // how often a quiet watch is checked
	refused error         // what handle returned, when it fails
	last    Head          // what handle has been told of
	next    int64         // the revision to go on from, above last.Revision
	loaded  bool          // handle has had its first event
	// held are the revisions of the resources that were accounted for: those that
	// handle knows, and those of later versions, which it is not told of.
	held map[string]int64
}

// tell passes an event on, and remembers what was told.
func (w *watch) tell(ctx context.Context, e Event) error {
	if err := w.handle(e); err != nil {
		w.refused = err
		return err
	}
	w.last, w.next, w.loaded = e.Head, e.Revision+1, true
	for name, r := range e.Puts {
		w.held[name] = r.Revision
	}
	for _, name := range e.Deletes {
		delete(w.held, name)
	}
	return w.store.see(ctx, &Head{}, e.Head)
}

// follow passes events on as they come, from w.next on.
func (w *watch) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := w.store.client.Watch(ctx, root, clientv3.WithPrefix(), clientv3.WithRev(w.next))
	check := time.NewTicker(w.every)
	defer check.Stop()
	var behind int64 // w.last.Sequence when a check found it behind, or 0
	for {
		select {
		case resp, ok := <-events:
			if !ok {
				return errors.New("watch closed")
			}
			if err := resp.Err(); err != nil {
				return failing(ctx, err)
			}
			if err := w.take(ctx, resp.Events); err != nil {
				return err
			}
		case <-check.C:
			head, err := w.store.Head(ctx)
			switch {
			case errors.Is(err, ErrOffline):
			case err != nil:
				return err
			case head.Sequence > w.last.Sequence && behind == w.last.Sequence+1:
				return fmt.Errorf("%w: none since change %d, and the store is at %d", errGap, w.last.Sequence, head.Sequence)
			case head.Sequence > w.last.Sequence:
				behind = w.last.Sequence + 1
			default:
				behind = 0
			}
		case <-w.store.failed:
			return w.store.failure
		}
	}
}

// take passes on the events of one answer, which never divides a revision.
func (w *watch) take(ctx context.Context, events []*clientv3.Event) error {
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
			n++
		}
		e, err := w.read(events[:n])
		if err == nil {
			err = w.tell(ctx, e)
		}
		if err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// read makes an Event of what etcd tells of one revision, if all of it is what
// that revision's change record says.
func (w *watch) read(events []*clientv3.Event) (Event, error) {
	e := Event{Revision: events[0].Kv.ModRevision, Puts: make(map[string]Resource)}
	l := newLedger(w.last)
	var head, record *mvccpb.KeyValue
	resources := make(map[string][]byte, len(events))
	for _, ev := range events {
		key := string(ev.Kv.Key)
		switch {
		case holdsResource(key) && ev.Type == clientv3.EventTypeDelete:
			resources[key] = nil
			e.Deletes = append(e.Deletes, strings.TrimPrefix(key, root))
		case holdsResource(key):
			resources[key] = ev.Kv.Value
		case ev.Type == clientv3.EventTypeDelete:
			return e, fmt.Errorf("%w: revision %d deletes %s", ErrForeignWrite, e.Revision, key)
		case key == headKey:
			head = ev.Kv
		case record != nil:
			return e, fmt.Errorf("%w: revision %d has two change records", ErrForeignWrite, e.Revision)
		default:
			record = ev.Kv
		}
	}
	if head == nil || record == nil {
		return e, fmt.Errorf("%w: revision %d, which writes %s, has no change record", ErrForeignWrite, e.Revision, events[0].Kv.Key)
	}
	var err error
	if e.Head, err = headOf(head); err != nil {
		return e, err
	}
	if e.Head.Sequence > w.last.Sequence+1 {
		return e, fmt.Errorf("%w: those between changes %d and %d", errGap, w.last.Sequence, e.Head.Sequence)
	}
	if err := l.add(record); err != nil {
		return e, err
	}
	if err := l.closes(e.Head); err != nil {
		return e, err
	}
	for name := range l.after {
		if _, ok := resources[root+name]; !ok {
			return e, fmt.Errorf("%w: revision %d does not write %s, which its change record names", ErrForeignWrite, e.Revision, name)
		}
	}
	for key, value := range resources {
		name := strings.TrimPrefix(key, root)
		if err := l.explains(name, value); err != nil {
			return e, err
		}
		if value == nil {
			continue
		}
		if err := w.put(e.Puts, name, value, e.Revision); err != nil {
			return e, err
		}
	}
	slices.Sort(e.Deletes)
	e.Changes = l.changes
	return e, nil
}

// put decodes a resource into puts. One of a collection that this version does
// not know is left out, and held all the same: it belongs to a later version
// beside this one.
func (w *watch) put(puts map[string]Resource, name string, value []byte, revision int64) error {
	m, err := decode(name, value)
	if errors.Is(err, errFuture) {
		w.held[name] = revision
		return nil
	}
	if err != nil {
		return err
	}
	puts[name] = Resource{Name: name, Message: m, Revision: revision}
	return nil
}
