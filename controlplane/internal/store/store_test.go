package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

func TestUpdateThenRead(t *testing.T) {
	s := newStore(t)
	first := put(t, s, "a", "ann")
	second := put(t, s, "b", "bob")
	if second <= first {
		t.Errorf("revisions %d then %d", first, second)
	}
	got, err := s.Get(t.Context(), agentName("a"))
	if err != nil {
		t.Fatal(err)
	}
	want := Resource{Name: agentName("a"), Message: agent("a", "ann"), Revision: first}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Get(t.Context(), agentName("c")); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if head.Revision != second || head.Sequence != 2 || head.StoreID == "" {
		t.Errorf("head is %+v", head)
	}
}

// P7: every change leaves a record of who, what, why, before and after.
func TestUpdateRecordsItself(t *testing.T) {
	s := newStore(t)
	first := put(t, s, "a", "ann")
	second, err := s.Update(t.Context(), Meta{Actor: "me", Action: "move", Reason: "moved out"}, func(tx *Tx) error {
		return errors.Join(tx.Delete(agentName("a")), tx.Put(agentName("b"), agent("b", "ann")))
	})
	if err != nil {
		t.Fatal(err)
	}
	digest := func(m proto.Message) []byte {
		value, err := encode(m)
		if err != nil {
			t.Fatal(err)
		}
		return digestOf(value)
	}
	want := []*adminv1.Change{
		{
			Sequence: 2, Revision: second, Actor: "me", Action: "move", Reason: "moved out",
			Entries: []*adminv1.Change_Entry{
				{Name: agentName("a"), BeforeDigest: digest(agent("a", "ann"))},
				{Name: agentName("b"), AfterDigest: digest(agent("b", "ann"))},
			},
		},
		{
			Sequence: 1, Revision: first, Actor: "spiffe://example.test/admin/a", Action: "put",
			Entries: []*adminv1.Change_Entry{{Name: agentName("a"), AfterDigest: digest(agent("a", "ann"))}},
		},
	}
	got, err := s.Changes(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&adminv1.Change{}, "time")); diff != "" {
		t.Error(diff)
	}
	older, err := s.Changes(t.Context(), 2, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got[1:], older, protocmp.Transform()); diff != "" {
		t.Errorf("before 2: %s", diff)
	}
}

func TestUpdateWithoutEffect(t *testing.T) {
	s := newStore(t)
	newest := put(t, s, "a", "ann")
	refused := errors.New("refused")
	for _, tt := range []struct {
		name   string
		dryRun bool
		change func(*Tx) error
		want   error
	}{
		{name: "nothing written", change: func(*Tx) error { return nil }},
		{name: "the same again", change: func(tx *Tx) error { return tx.Put(agentName("a"), agent("a", "ann")) }},
		{name: "absent deleted", change: func(tx *Tx) error { return tx.Delete(agentName("x")) }},
		{name: "dry run", dryRun: true, change: func(tx *Tx) error { return tx.Delete(agentName("a")) }},
		{name: "refused", want: refused, change: func(tx *Tx) error {
			return errors.Join(tx.Delete(agentName("a")), refused)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			revision, err := s.Update(t.Context(), Meta{DryRun: tt.dryRun}, tt.change)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			if err == nil && revision != newest {
				t.Errorf("got revision %d, want %d", revision, newest)
			}
			head, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if head.Revision != newest {
				t.Errorf("the store went from %d to %d", newest, head.Revision)
			}
		})
	}
}

func TestTxSeesItsWrites(t *testing.T) {
	s := newStore(t)
	put(t, s, "a", "ann")
	put(t, s, "b", "bob")
	ctx := t.Context()
	_, err := s.Update(ctx, Meta{}, func(tx *Tx) error {
		if err := errors.Join(tx.Delete(agentName("a")), tx.Put(agentName("c"), agent("c", "cy"))); err != nil {
			return err
		}
		if _, err := tx.Get(ctx, agentName("a")); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
		if err := tx.Create(ctx, agentName("c"), agent("c", "cy")); !errors.Is(err, ErrExists) {
			t.Errorf("create twice: %v", err)
		}
		list, err := tx.List(ctx, "namespaces/default/agents/")
		if err != nil {
			return err
		}
		var names []string
		for _, r := range list {
			names = append(names, strings.TrimPrefix(r.Name, "namespaces/default/agents/"))
		}
		if diff := cmp.Diff([]string{"b", "c"}, names); diff != "" {
			t.Error(diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPutOfAnotherType(t *testing.T) {
	s := newStore(t)
	for name, m := range map[string]proto.Message{
		agentName("a"):              &grantv1.Grant{},
		"namespaces/default":        &grantv1.Agent{},
		"namespaces/default/cats/a": &grantv1.Agent{},
		"namespaces//agents/a":      &grantv1.Agent{},
		"head":                      &storev1.Head{},
		"changes/1":                 &adminv1.Change{},
	} {
		_, err := s.Update(t.Context(), Meta{}, func(tx *Tx) error { return tx.Put(name, m) })
		if err == nil {
			t.Errorf("put of a %T as %s was accepted", m, name)
		}
	}
}

func TestTooLarge(t *testing.T) {
	s := newStore(t)
	fill := func(n int) error {
		_, err := s.Update(t.Context(), Meta{}, func(tx *Tx) error {
			for i := range n {
				id := fmt.Sprint("a", i)
				if err := tx.Put(agentName(id), agent(id, "ann")); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	}
	if err := fill(MaxWrites); err != nil {
		t.Errorf("%d writes: %v", MaxWrites, err)
	}
	if err := fill(MaxWrites + 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d writes: %v", MaxWrites+1, err)
	}
	_, err := s.Update(t.Context(), Meta{}, func(tx *Tx) error {
		return tx.Put(agentName("big"), agent("big", strings.Repeat("x", 2<<20)))
	})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("2 MiB: %v", err)
	}
}

func TestListPages(t *testing.T) {
	s := newStore(t)
	for _, id := range []string{"a", "b", "c"} {
		put(t, s, id, "ann")
	}
	first, err := s.List(t.Context(), "namespaces/default/agents/", "", 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Resources) != 2 || !first.More {
		t.Fatalf("first page: %+v", first)
	}
	put(t, s, "d", "ann")
	second, err := s.List(t.Context(), "namespaces/default/agents/", first.Resources[1].Name, 2, first.Revision)
	if err != nil {
		t.Fatal(err)
	}
	if len(second.Resources) != 1 || second.More || second.Resources[0].Name != agentName("c") || second.Revision != first.Revision {
		t.Errorf("second page: %+v", second)
	}
	if _, err := etcd.client.Compact(t.Context(), first.Revision+1); err != nil {
		t.Fatal(err)
	}
	_, err = s.List(t.Context(), "namespaces/default/agents/", "", 2, first.Revision)
	if !errors.Is(err, ErrCompacted) {
		t.Errorf("compacted: %v", err)
	}
	all, err := s.List(t.Context(), "", "", 0, 0)
	if err != nil || len(all.Resources) != 4 {
		t.Errorf("everything: %d, %v", len(all.Resources), err)
	}
}

// A read-modify-write by many at once, through one store and through several,
// loses nothing.
func TestConcurrentUpdates(t *testing.T) {
	s := newStore(t)
	put(t, s, "a", "")
	stores := []*Store{s, s, sameStore(t), sameStore(t)}
	const each = 10
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			for done := 0; done < each; {
				_, err := s.Update(t.Context(), Meta{Action: "append"}, func(tx *Tx) error {
					r, err := tx.Get(t.Context(), agentName("a"))
					if err != nil {
						return err
					}
					return tx.Put(r.Name, agent("a", r.Message.(*grantv1.Agent).GetOwner()+"x"))
				})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	r, err := s.Get(t.Context(), agentName("a"))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(r.Message.(*grantv1.Agent).GetOwner()); got != each*len(stores) {
		t.Errorf("%d of %d changes are left", got, each*len(stores))
	}
}

func TestConflict(t *testing.T) {
	s, other := newStore(t), sameStore(t)
	tries := 0
	_, err := s.Update(t.Context(), Meta{Action: "put"}, func(tx *Tx) error {
		tries++
		put(t, other, "other", fmt.Sprint(tries))
		return tx.Put(agentName("a"), agent("a", "ann"))
	})
	if !errors.Is(err, ErrConflict) || tries != attempts {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if _, err := s.Get(t.Context(), agentName("a")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a lost change was written: %v", err)
	}
}

// A change whose answer was lost is found again, not made twice.
func TestCommitIsIdempotent(t *testing.T) {
	s := newStore(t)
	head, _, err := s.head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	record := &adminv1.Change{Sequence: 1, Actor: "me"}
	first, err := s.commit(t.Context(), head, head, record, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.commit(t.Context(), head, head, record, nil, nil)
	if err != nil || again != first {
		t.Errorf("again: %d, %v; want %d", again, err, first)
	}
	record.Actor = "you"
	if _, err := s.commit(t.Context(), head, head, record, nil, nil); !errors.Is(err, errLost) {
		t.Errorf("another's: %v", err)
	}
}

func TestGetOrCreate(t *testing.T) {
	newStore(t)
	results := make(chan proto.Message, 4)
	var wg sync.WaitGroup
	for i := range cap(results) {
		s := sameStore(t)
		wg.Go(func() {
			m, err := s.GetOrCreate(t.Context(), "authority", "create authority", func() (proto.Message, error) {
				return &storev1.Authority{TrustDomain: fmt.Sprint(i)}, nil
			})
			if err != nil {
				t.Error(err)
			}
			results <- m
		})
	}
	wg.Wait()
	first := <-results
	for range cap(results) - 1 {
		if diff := cmp.Diff(first, <-results, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
}
