package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/testing/protocmp"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func TestWatchTellsEveryChange(t *testing.T) {
	s := newStore(t)
	a := put(t, s, "a", "ann")
	events, _ := watching(t, s)
	load := next(t, events)
	want := map[string]Resource{agentName("a"): {Name: agentName("a"), Message: agent("a", "ann"), Revision: a}}
	if diff := cmp.Diff(want, load.Puts, protocmp.Transform()); diff != "" || !load.Load || load.Revision != a {
		t.Errorf("load at %d: %s", load.Revision, diff)
	}
	b := put(t, sameStore(t), "b", "bob")
	e := next(t, events)
	want = map[string]Resource{agentName("b"): {Name: agentName("b"), Message: agent("b", "bob"), Revision: b}}
	if diff := cmp.Diff(want, e.Puts, protocmp.Transform()); diff != "" || e.Load || e.Revision != b || e.Head.Sequence != 2 {
		t.Errorf("put at %d: %+v: %s", b, e, diff)
	}
	if len(e.Changes) != 1 || e.Changes[0].GetRevision() != b {
		t.Errorf("changes: %v", e.Changes)
	}
	c := remove(t, s, "a")
	e = next(t, events)
	if diff := cmp.Diff([]string{agentName("a")}, e.Deletes); diff != "" || e.Revision != c || len(e.Puts) != 0 {
		t.Errorf("delete at %d: %+v: %s", c, e, diff)
	}
}

func TestWatchOfAnEmptyStore(t *testing.T) {
	s := newStore(t)
	events, _ := watching(t, s)
	if e := next(t, events); !e.Load || len(e.Puts) != 0 || e.Revision == 0 {
		t.Errorf("load is %+v", e)
	}
}

func TestWatchEndsWithItsHandle(t *testing.T) {
	s := newStore(t)
	full := errors.New("full")
	if err := s.Watch(t.Context(), func(Event) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Watch(ctx, func(Event) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// newWatch returns a watch that has told its load, for tests that go on by hand.
func newWatch(t *testing.T, s *Store) (*watch, *[]Event) {
	t.Helper()
	told := new([]Event)
	w := &watch{store: s, every: 50 * time.Millisecond, held: make(map[string]int64), handle: func(e Event) error {
		*told = append(*told, e)
		return nil
	}}
	if err := w.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	*told = nil
	return w, told
}

// What was missed is told as one event, and only that.
func TestCatchUp(t *testing.T) {
	s := newStore(t)
	put(t, s, "same", "ann")
	put(t, s, "gone", "ann")
	put(t, s, "changed", "ann")
	w, told := newWatch(t, s)
	put(t, s, "changed", "bob")
	put(t, s, "new", "ann")
	put(t, s, "passing", "ann")
	remove(t, s, "passing")
	revision := remove(t, s, "gone")
	if _, err := etcd.client.Compact(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	w.every = time.Hour // a look at the head may be faster than the watch, and finds a gap
	if err := w.follow(t.Context()); !errors.Is(err, ErrCompacted) {
		t.Fatalf("follow: %v", err)
	}
	if err := w.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(*told) != 1 {
		t.Fatalf("told %d events", len(*told))
	}
	e := (*told)[0]
	owners := make(map[string]string)
	for name, r := range e.Puts {
		owners[name] = r.Message.(*grantv1.Agent).GetOwner()
	}
	want := map[string]string{agentName("changed"): "bob", agentName("new"): "ann"}
	if diff := cmp.Diff(want, owners); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{agentName("gone")}, e.Deletes); diff != "" {
		t.Error(diff)
	}
	if e.Load || e.Revision != revision || len(e.Changes) != 5 || e.Head.Sequence != 8 {
		t.Errorf("told %+v", e)
	}
	if err := w.catchUp(t.Context()); err != nil || len(*told) != 1 {
		t.Errorf("nothing new: %v, told %d", err, len(*told))
	}
}

// putRaw writes what a later version of this program might, as one change.
func putRaw(t *testing.T, s *Store, name, value string) {
	t.Helper()
	head, revision, err := s.head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tx := &Tx{
		store: s, head: head, revision: revision,
		found: make(map[string]stored), writes: map[string]written{name: []byte(value)},
	}
	record := &adminv1.Change{Sequence: head.Sequence + 1}
	compares, writes, err := tx.seal(t.Context(), record)
	if err == nil {
		_, err = s.commit(t.Context(), head, head, record, compares, writes)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What a later version writes is told to nobody, and is no foreign write either:
// not when it is loaded, not when it comes, and not when a watch catches up.
func TestWatchPassesOverLaterKinds(t *testing.T) {
	s := newStore(t)
	const before, after = "namespaces/default/sessions/before", "namespaces/default/sessions/after"
	putRaw(t, s, before, "a message of that version")
	w, told := newWatch(t, s)
	for _, name := range []string{after, before} {
		putRaw(t, s, name, "another message")
		put(t, s, "a", name)
		if err := w.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(*told) != 2 || len((*told)[0].Puts) != 1 || len((*told)[1].Puts) != 1 {
		t.Errorf("told %+v", *told)
	}
}

// A watch is interrupted, compacted past, and goes on.
func TestWatchSurvivesCompaction(t *testing.T) {
	s := newStore(t)
	put(t, s, "a", "0")
	entered, leave := make(chan Event, 100), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, func(e Event) error {
			entered <- e
			<-leave
			return nil
		})
	}()
	next(t, entered) // the load, which is held up
	var revision int64
	for i := range 5 {
		revision = put(t, s, "a", fmt.Sprint(i+1))
	}
	if _, err := etcd.client.Compact(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	close(leave)
	for e := next(t, entered); e.Revision != revision; e = next(t, entered) {
		if e.Load {
			t.Error("loaded again")
		}
	}
	last := put(t, s, "a", "last")
	if e := next(t, entered); e.Revision != last {
		t.Errorf("told %+v", e)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestLostEventIsNoticed(t *testing.T) {
	s := newStore(t)
	w, _ := newWatch(t, s)
	put(t, s, "a", "ann")
	put(t, s, "b", "bob")
	resp := <-etcd.client.Watch(t.Context(), root, clientv3.WithPrefix(), clientv3.WithRev(w.next))
	events := resp.Events
	for events[0].Kv.ModRevision == w.next {
		events = events[1:]
	}
	if err := w.take(t.Context(), events); !errors.Is(err, errGap) {
		t.Errorf("got %v", err)
	}
}

// The newest event is missed although no other follows it.
func TestLostNewestEventIsNoticed(t *testing.T) {
	s := newStore(t)
	w, told := newWatch(t, s)
	revision := put(t, s, "a", "ann")
	w.next = revision + 1
	if err := w.follow(t.Context()); !errors.Is(err, errGap) {
		t.Errorf("got %v", err)
	}
	if err := w.catchUp(t.Context()); err != nil || len(*told) != 1 || (*told)[0].Revision != revision {
		t.Errorf("caught up with %+v, %v", *told, err)
	}
}

// A store that goes back under a watch is noticed although nothing is told.
func TestWatchOfAStoreThatGoesBack(t *testing.T) {
	s := newStore(t)
	put(t, s, "a", "ann")
	old, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", "bob")
	w, _ := newWatch(t, s)
	rawPut(t, headKey, headValue(t, old))
	head, err := etcd.client.Get(t.Context(), headKey)
	if err != nil {
		t.Fatal(err)
	}
	w.next = head.Header.Revision + 1 // an etcd that was restored tells nothing of it
	if err := w.follow(t.Context()); !errors.Is(err, ErrRolledBack) {
		t.Errorf("got %v", err)
	}
}

// P7: what was not written by this program is not passed on.
func TestForeignWrites(t *testing.T) {
	value, err := encode(agent("a", "mallory"))
	if err != nil {
		t.Fatal(err)
	}
	copied := func(t *testing.T, key string) string {
		t.Helper()
		resp, err := etcd.client.Get(t.Context(), key)
		if err != nil || len(resp.Kvs) == 0 {
			t.Fatalf("%s: %v", key, err)
		}
		return string(resp.Kvs[0].Value)
	}
	del := func(t *testing.T, key string) {
		t.Helper()
		if _, err := etcd.client.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for name, write := range map[string]func(t *testing.T){
		"changed resource": func(t *testing.T) { t.Helper(); rawPut(t, root+agentName("a"), string(value)) },
		"new resource":     func(t *testing.T) { t.Helper(); rawPut(t, root+agentName("z"), string(value)) },
		"deleted resource": func(t *testing.T) { t.Helper(); del(t, root+agentName("a")) },
		"deleted record":   func(t *testing.T) { t.Helper(); del(t, changeKey(1)) },
		"added record":     func(t *testing.T) { t.Helper(); rawPut(t, changeKey(2), copied(t, changeKey(1))) },
		"deleted head":     func(t *testing.T) { t.Helper(); del(t, headKey) },
		"unknown key":      func(t *testing.T) { t.Helper(); rawPut(t, root+"cats/tom", "miaow") },
		"a change without its resource": func(t *testing.T) {
			t.Helper()
			forge(t, []string{agentName("a")}, nil)
		},
		"a change with another resource": func(t *testing.T) {
			t.Helper()
			forge(t, nil, []clientv3.Op{clientv3.OpPut(root+agentName("a"), string(value))})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			put(t, s, "a", "ann")
			events, ended := watching(t, s)
			next(t, events)
			write(t)
			err := next(t, ended)
			if !errors.Is(err, ErrForeignWrite) {
				t.Errorf("watching: %v", err)
			}
			if len(events) > 0 {
				t.Errorf("told %+v", <-events)
			}
			if err := s.Run(t.Context()); err == nil {
				t.Error("Run goes on")
			}
			err = sameStore(t).Watch(t.Context(), func(e Event) error { return fmt.Errorf("told %+v", e) })
			if !errors.Is(err, ErrForeignWrite) {
				t.Errorf("loading: %v", err)
			}
		})
	}
}

// forge makes a change whose record names names, and which writes writes.
func forge(t *testing.T, names []string, writes []clientv3.Op) {
	t.Helper()
	s := sameStore(t)
	head, _, err := s.head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	record := recordOf(head, names)
	if _, err := s.commit(t.Context(), head, head, record, nil, writes); err != nil {
		t.Fatal(err)
	}
}

func recordOf(head Head, names []string) *adminv1.Change {
	record := &adminv1.Change{Sequence: head.Sequence + 1}
	for _, name := range names {
		record.Entries = append(record.Entries, &adminv1.Change_Entry{Name: name, AfterDigest: []byte("digest")})
	}
	return record
}
