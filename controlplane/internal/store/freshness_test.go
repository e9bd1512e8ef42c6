package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// P2: whoever was marked ended, or never announced itself, reads no head.
func TestBeat(t *testing.T) {
	s, other := newStore(t), sameStore(t)
	ctx := t.Context()
	if _, err := s.Beat(ctx, "a"); !errors.Is(err, ErrFenced) {
		t.Errorf("not announced: %v", err)
	}
	p := &storev1.Presence{Incarnation: "a", Replica: "one", Address: "host:1"}
	for range 2 { // again, as after an answer that was lost
		if err := s.PutPresence(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.PutPresence(ctx, &storev1.Presence{Incarnation: "a"}); !errors.Is(err, ErrExists) {
		t.Errorf("another of the same incarnation: %v", err)
	}
	revision := put(t, other, "x", "ann")
	if h, err := s.Beat(ctx, "a"); err != nil || h.Revision != revision {
		t.Errorf("read %+v, %v; want revision %d", h, err, revision)
	}
	if err := other.DeletePresence(ctx, "a"); !errors.Is(err, ErrConflict) {
		t.Errorf("deleted before it ended: %v", err)
	}
	for range 2 {
		if err := other.EndPresence(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Beat(ctx, "a"); !errors.Is(err, ErrFenced) {
		t.Errorf("after its end: %v", err)
	}
	if err := s.PutPresence(ctx, p); !errors.Is(err, ErrExists) {
		t.Errorf("announced again after its end: %v", err)
	}
	h, all, err := s.Presences(ctx)
	if err != nil || len(all) != 1 || all[0].GetEndTime() == nil || h.Revision != revision {
		t.Errorf("head %+v, presences %v, %v", h, all, err)
	}
	for range 2 {
		if err := other.DeletePresence(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.EndPresence(ctx, "a"); err != nil {
		t.Errorf("end of one that is gone: %v", err)
	}
	if _, err := s.Beat(ctx, "a"); !errors.Is(err, ErrFenced) {
		t.Errorf("after it was deleted: %v", err)
	}
}

// P8: a presence is read from a store that went back as any head is.
func TestBeatOfAnotherStore(t *testing.T) {
	s := newStore(t)
	put(t, s, "x", "ann")
	if err := s.PutPresence(t.Context(), &storev1.Presence{Incarnation: "a"}); err != nil {
		t.Fatal(err)
	}
	value, err := encode(&storev1.Head{StoreId: "another"})
	if err != nil {
		t.Fatal(err)
	}
	rawPut(t, headKey, string(value))
	if _, err := s.Beat(t.Context(), "a"); !errors.Is(err, ErrRolledBack) {
		t.Errorf("read %v; want ErrRolledBack", err)
	}
}

func putGrant(t *testing.T, s *Store, id string, bound time.Duration) {
	t.Helper()
	_, err := s.Update(t.Context(), Meta{Action: "put"}, func(tx *Tx) error {
		tx.RaiseBound(bound)
		return tx.Put("namespaces/default/grants/"+id, &grantv1.Grant{Description: id, FreshnessBound: durationpb.New(bound)})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func longest(t *testing.T, s *Store, want time.Duration) {
	t.Helper()
	h, err := s.Head(t.Context())
	if err != nil || h.LongestBound != want {
		t.Errorf("the longest bound is %s, %v; want %s", h.LongestBound, err, want)
	}
}

// P2: the head's bound is never below one that a grant named since it was last
// lowered, and is lowered only if none was put since it was waited out.
func TestLongestBound(t *testing.T) {
	s := newStore(t)
	events, _ := watching(t, s)
	next(t, events)
	ctx := t.Context()
	putGrant(t, s, "long", time.Minute)
	putGrant(t, s, "short", time.Second)
	longest(t, s, time.Minute)
	put(t, s, "x", "ann") // a change of something else
	longest(t, s, time.Minute)
	if err := s.LowerBound(ctx, Head{}, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("lowered since never: %v", err)
	}
	if _, err := s.Update(ctx, Meta{Action: "delete"}, func(tx *Tx) error {
		return tx.Delete("namespaces/default/grants/long")
	}); err != nil {
		t.Fatal(err)
	}
	longest(t, s, time.Minute)
	since, named, err := s.NamedBound(ctx)
	if err != nil || named != time.Second {
		t.Fatalf("named %s, %v", named, err)
	}
	putGrant(t, s, "meanwhile", 30*time.Second)
	if err := s.LowerBound(ctx, since, named); !errors.Is(err, ErrConflict) {
		t.Errorf("lowered although a grant was put: %v", err)
	}
	longest(t, s, time.Minute)
	if since, named, err = s.NamedBound(ctx); err != nil || named != 30*time.Second {
		t.Fatalf("named %s, %v", named, err)
	}
	remove(t, s, "x") // no grant
	if err := s.LowerBound(ctx, since, named); err != nil {
		t.Error(err)
	}
	longest(t, s, 30*time.Second)
	changes, err := s.Changes(ctx, 0, 1)
	if err != nil || len(changes) != 1 || changes[0].GetAction() != "controlplane.lower_bound" {
		t.Errorf("recorded %v, %v", changes, err)
	}
	var last Event
	for last.Head.Sequence < changes[0].GetSequence() { // it is a change like any other to those who watch
		last = next(t, events)
	}
	if last.Head.LongestBound != 30*time.Second || len(last.Puts)+len(last.Deletes) != 0 {
		t.Errorf("told %+v", last)
	}
	if !cmp.Equal(last.Changes, changes, protocmp.Transform()) {
		t.Errorf("told of %v", last.Changes)
	}
}

func TestFleetStates(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"fleet", "namespaces/default/fleet"} {
		_, err := s.Update(t.Context(), Meta{Action: "halt"}, func(tx *Tx) error {
			return tx.Put(name, &grantv1.FleetState{Name: name, State: grantv1.FleetState_HALTED})
		})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := s.Get(t.Context(), name); err != nil || r.Message.(*grantv1.FleetState).GetName() != name {
			t.Errorf("got %v, %v", r, err)
		}
	}
	for _, name := range []string{"fleet/x", "namespaces/fleet", "namespaces//fleet", "namespaces/a/fleet/b"} {
		_, err := s.Update(t.Context(), Meta{}, func(tx *Tx) error { return tx.Put(name, &grantv1.FleetState{}) })
		if err == nil {
			t.Errorf("put %s", name)
		}
	}
}

// Lists leave out what a later version keeps beside this one, and fail at what
// nobody can read.
func TestListOfALaterVersion(t *testing.T) {
	s := newStore(t)
	put(t, s, "x", "ann")
	rawPut(t, root+"namespaces/default/novelties/n", "\x01")
	page, err := s.List(t.Context(), "namespaces/", "", 0, 0)
	if err != nil || len(page.Resources) != 1 {
		t.Errorf("listed %v, %v", page, err)
	}
	_, err = s.Update(t.Context(), Meta{}, func(tx *Tx) error {
		all, err := tx.List(t.Context(), "namespaces/")
		if err == nil && len(all) != 1 {
			err = fmt.Errorf("%d resources", len(all))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	rawPut(t, root+"namespaces/default/grants/g", "\x02")
	if _, err := s.List(t.Context(), "namespaces/", "", 0, 0); err == nil {
		t.Error("a grant that cannot be read was left out")
	}
}

// P2, P8: what was restored is halted until somebody lifts it, and whoever served
// from the store before has ended, with the longest bound that it can have had.
func TestRestoreHalts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	s := newStore(t)
	ctx := t.Context()
	putGrant(t, s, "long", time.Minute)
	if err := s.PutPresence(ctx, &storev1.Presence{Incarnation: "a", Bound: durationpb.New(5 * time.Second)}); err != nil {
		t.Fatal(err)
	}
	restored := openBackup(t, backUp(t, s))
	r, err := restored.Get(ctx, "fleet")
	if err != nil || r.Message.(*grantv1.FleetState).GetState() != grantv1.FleetState_HALTED ||
		!strings.Contains(r.Message.(*grantv1.FleetState).GetReason(), "reevectl fleet resume") {
		t.Errorf("the fleet is %v, %v", r.Message, err)
	}
	h, all, err := restored.Presences(ctx)
	if err != nil || h.LongestBound != time.Minute || len(all) != 2 {
		t.Fatalf("head %+v, presences %v, %v", h, all, err)
	}
	for _, p := range all {
		if p.GetEndTime() == nil || p.GetBound().AsDuration() != 5*time.Second {
			t.Errorf("presence %v", p)
		}
	}
}
