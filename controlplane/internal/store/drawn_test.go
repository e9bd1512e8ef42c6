package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

const grantName = "namespaces/default/grants/g"

var own = Count{GrantUID: "g1", AgentUID: "a1"}

// one draws one call of all.
func one(d Draw) (*storev1.Drawn, error) {
	d.All.Calls++
	return d.All, nil
}

// P6: of draws by many at once, through several control planes, none is lost and
// none is counted twice; and nobody is told of them.
func TestDrawsAddUp(t *testing.T) {
	s := newStore(t)
	put(t, s, "a", "")
	events, _ := watching(t, s)
	next(t, events)
	before, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const each = 40
	var wg sync.WaitGroup
	for _, s := range []*Store{s, s, sameStore(t), sameStore(t)} {
		wg.Go(func() {
			for done := 0; done < each; {
				switch err := s.Draw(t.Context(), grantName, agentName("a"), own, one); {
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
	all, more, err := s.Drawns(t.Context(), Count{}, 10)
	if err != nil || more || len(all) != 1 || all[0].Count != (Count{GrantUID: "g1"}) || all[0].GetCalls() != 4*each {
		t.Errorf("drawn: %v, %v", all, err)
	}
	after, err := s.Head(t.Context())
	if err != nil || after.Revision != before.Revision || after.Sequence != before.Sequence {
		t.Errorf("the head was %+v, and is %+v (%v)", before, after, err)
	}
	last := put(t, s, "a", "somebody")
	if e := next(t, events); e.Revision != last || len(e.Puts) != 1 {
		t.Errorf("told of %+v, want the change at %d", e, last)
	}
}

// What decide saw is what is there when its draw is stored: a grant or an agent
// that was written meanwhile is looked at again.
func TestDrawSeesChanges(t *testing.T) {
	for name, meanwhile := range map[string]func(*testing.T, *Store){
		"the agent":   changeAgent,
		"no agent":    removeAgent,
		"the grant":   changeGrant,
		"own count":   drawOwn,
		"all's count": drawAll,
	} {
		t.Run(name, func(t *testing.T) {
			s, other := newStore(t), sameStore(t)
			put(t, s, "a", "")
			tries := 0
			err := s.Draw(t.Context(), grantName, agentName("a"), own, func(d Draw) (*storev1.Drawn, error) {
				if tries++; tries == 1 {
					meanwhile(t, other)
				}
				return one(d)
			})
			if err != nil || tries != 2 {
				t.Errorf("decided %d times (%v), want twice", tries, err)
			}
		})
	}
}

func changeAgent(t *testing.T, s *Store) {
	t.Helper()
	put(t, s, "a", "changed")
}

func removeAgent(t *testing.T, s *Store) {
	t.Helper()
	remove(t, s, "a")
}

func changeGrant(t *testing.T, s *Store) {
	t.Helper()
	putGrant(t, s, "g", time.Second)
}

func drawOwn(t *testing.T, s *Store) {
	t.Helper()
	err := s.Draw(t.Context(), grantName, agentName("a"), own, func(d Draw) (*storev1.Drawn, error) {
		d.Own.Calls++
		return d.Own, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func drawAll(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Draw(t.Context(), grantName, agentName("a"), own, one); err != nil {
		t.Fatal(err)
	}
}

func TestDrawOfNothing(t *testing.T) {
	s := newStore(t)
	refused := errors.New("refused")
	err := s.Draw(t.Context(), grantName, agentName("a"), own, func(d Draw) (*storev1.Drawn, error) {
		if d.Grant.Message != nil || d.Agent.Message != nil || d.Own.GetCalls()+d.All.GetCalls() != 0 {
			t.Errorf("there is %+v", d)
		}
		return nil, refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("refused: %v", err)
	}
	if err := s.Draw(t.Context(), grantName, agentName("a"), own, func(Draw) (*storev1.Drawn, error) { return nil, nil }); err != nil {
		t.Error(err)
	}
	if all, _, err := s.Drawns(t.Context(), Count{}, 10); err != nil || len(all) != 0 {
		t.Errorf("stored %v, %v", all, err)
	}
	// P1: a count that cannot be read is no count of nothing.
	rawPut(t, own.key(), "nonsense")
	if err := s.Draw(t.Context(), grantName, agentName("a"), own, one); !errors.Is(err, errUnreadable) {
		t.Errorf("of an unreadable count: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Draw(ctx, grantName, agentName("a"), own, one); err == nil {
		t.Error("drawn for who has left")
	}
}

func TestDrawnPages(t *testing.T) {
	s := newStore(t)
	put(t, s, "a", "")
	want := []Count{{"g1", "a1"}, {"g1", "a2"}, {"g1", ""}, {"g2", "a1"}, {"g3", ""}}
	for _, c := range want {
		err := s.Draw(t.Context(), grantName, agentName("a"), c, func(d Draw) (*storev1.Drawn, error) {
			if c.AgentUID == "" {
				return d.All, nil
			}
			return d.Own, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteDrawn(t.Context(), []Count{want[1], {"g1", "nobody"}}); err != nil {
		t.Fatal(err)
	}
	want = slices.Delete(want, 1, 2)
	for _, size := range []int{1, 2, 100} {
		var got []Count
		for after, more := (Count{}), true; more; {
			var page []Drawn
			var err error
			if page, more, err = s.Drawns(t.Context(), after, size); err != nil {
				t.Fatal(err)
			}
			for _, d := range page {
				after = d.Count
				got = append(got, d.Count)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: %v, want %v", size, got, want)
		}
	}
}

// Sessions and counts are part of a backup; a restored store has those of then,
// and is halted until somebody has seen to what came after.
func TestRestoreOfSessionsAndCounts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	s := newStore(t)
	ctx := t.Context()
	put(t, s, "a", "")
	session := &grantv1.Session{Name: agentName("a") + "/sessions/s-1", ExpireTime: timestamppb.New(time.Now().Add(time.Hour))}
	if _, err := s.Update(ctx, Meta{Action: "start"}, func(tx *Tx) error { return tx.Put(session.GetName(), session) }); err != nil {
		t.Fatal(err)
	}
	drawOwn(t, s)
	file := backUp(t, s)
	drawOwn(t, s)
	if _, err := s.Update(ctx, Meta{Action: "end"}, func(tx *Tx) error { return tx.Delete(session.GetName()) }); err != nil {
		t.Fatal(err)
	}
	restored := openBackup(t, file)
	if _, err := restored.Get(ctx, session.GetName()); err != nil {
		t.Error(err)
	}
	if all, _, err := restored.Drawns(ctx, Count{}, 10); err != nil || len(all) != 1 || all[0].GetCalls() != 1 {
		t.Errorf("drawn: %v, %v", all, err)
	}
	if _, err := restored.Get(ctx, "fleet"); err != nil {
		t.Errorf("not halted: %v", err)
	}
}
