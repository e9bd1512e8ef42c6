package enroll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// sweepAfter sweeps as of some time from now, by what a control plane believes
// that agents' incarnations are.
func (s *scene) sweepAfter(d time.Duration, uidOf func(string) string) {
	s.Helper()
	now := func() time.Time { return time.Now().Add(d) }
	sweeper := NewSweeper(resources, uidOf, now, slog.New(slog.DiscardHandler))
	if err := sweeper.sweep(s.Context()); err != nil {
		s.Fatal(err)
	}
}

// storedUID is what a control plane believes that is not behind.
func (s *scene) storedUID(agent string) string {
	a, err := get[*grantv1.Agent](s.Context(), resources, agent)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.Error(err)
	}
	return a.GetUid()
}

// there reports whether the store has a resource.
func (s *scene) there(name string) bool {
	s.Helper()
	_, err := resources.Get(s.Context(), name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.Fatal(err)
	}
	return err == nil
}

// enrolled enrols a new key and returns what its enrolment is stored under.
func (s *scene) enrolled(token string) string {
	s.Helper()
	key := newKey(s.T)
	if _, err := s.attest(key, token); err != nil {
		s.Fatal(err)
	}
	_, digest, err := s.server.readRequest(s.Context(), requestFor(s.T, key))
	if err != nil {
		s.Fatal(err)
	}
	return store.EnrollmentName(digest)
}

// A used token is known for a day, whenever it ends, so that using it again
// suspends the agent; then it is as if it had never been. One that may still be
// used stays.
func TestSweepTokens(t *testing.T) {
	s := newScene(t)
	used, long, ended, open := token+t.Name()+"used", token+t.Name()+"long", token+t.Name()+"ended", token+t.Name()+"open"
	s.putToken(used, time.Minute)
	s.putToken(long, 7*tokenKept)
	s.putToken(ended, -time.Second)
	s.putToken(open, 7*tokenKept)
	key := s.enrolled(used)
	s.enrolled(long)
	left := func(want ...string) {
		t.Helper()
		for _, token := range []string{used, long, ended, open} {
			if got := s.there(store.TokenName(token)); got != slices.Contains(want, token) {
				t.Errorf("%s is there: %v", token, got)
			}
		}
	}
	s.sweepAfter(tokenKept-10*time.Second, s.storedUID)
	left(used, long, ended, open)
	_, err := s.attest(newKey(t), used)
	s.refused(err, "TOKEN_USED")
	if s.state() != grantv1.Agent_SUSPENDED {
		t.Errorf("the agent is %s", s.state())
	}
	s.putAgent("u1", grantv1.Agent_ACTIVE)

	s.sweepAfter(tokenKept+10*time.Second, s.storedUID)
	left(open)
	for _, token := range []string{used, long, ended} {
		_, err := s.attest(newKey(t), token)
		s.refused(err, "TOKEN_REFUSED")
	}
	if s.state() != grantv1.Agent_ACTIVE {
		t.Errorf("the agent is %s", s.state())
	}
	if !s.there(key) {
		t.Error("the enrolment went with the token")
	}
	changes, err := resources.Changes(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if c := changes[0]; c.GetActor() != "controlplane" || c.GetAction() != "controlplane.sweep" || c.GetReason() == "" || len(c.GetEntries()) < 3 {
		t.Errorf("the sweep left %v", c)
	}
	head, err := resources.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.sweepAfter(tokenKept+10*time.Second, s.storedUID)
	if again, err := resources.Head(t.Context()); err != nil || again.Revision != head.Revision {
		t.Errorf("a sweep with nothing to do made a change: %v", err)
	}
}

// Enrolments go with their agent's incarnation, and not before, whatever this
// control plane believes.
func TestSweepEnrollments(t *testing.T) {
	s := newScene(t)
	s.putToken(token+t.Name(), time.Hour)
	key := s.enrolled(token + t.Name())
	for _, state := range []grantv1.Agent_State{grantv1.Agent_ACTIVE, grantv1.Agent_SUSPENDED, grantv1.Agent_RETIRED} {
		s.putAgent("u1", state)
		s.sweepAfter(0, s.storedUID)
		s.sweepAfter(0, func(string) string { return "" }) // this one is behind
		if !s.there(key) {
			t.Fatalf("swept, and the agent is %s", state)
		}
	}
	s.putAgent("u2", grantv1.Agent_ACTIVE)
	s.sweepAfter(0, s.storedUID)
	if s.there(key) {
		t.Error("kept, and the agent was made anew")
	}

	s.agent += "-2"
	s.putAgent("u1", grantv1.Agent_ACTIVE)
	s.putToken(token+t.Name()+"2", time.Hour)
	key = s.enrolled(token + t.Name() + "2")
	s.update(func(tx *store.Tx) error { return tx.Delete(s.agent) })
	s.sweepAfter(0, s.storedUID)
	if s.there(key) {
		t.Error("kept, and the agent is gone")
	}
}

// However much there is, each change is small, and two who sweep at once do it
// once.
func TestSweepMany(t *testing.T) {
	s := newScene(t)
	const many = sweepReads + 3*sweepWrites/2
	for i := 0; i < many; {
		s.update(func(tx *store.Tx) error {
			for range min(100, many-i) {
				err := tx.Put(store.TokenName(fmt.Sprint(token, t.Name(), i)), &storev1.JoinToken{
					Agent: s.agent, AgentUid: "u1", ExpireTime: timestamppb.New(time.Now().Add(-2 * tokenKept)),
				})
				if err != nil {
					return err
				}
				i++
			}
			return nil
		})
	}
	before, err := resources.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := make(chan error)
	go func() {
		sweeper := NewSweeper(resources, s.storedUID, time.Now, slog.New(slog.DiscardHandler))
		other <- sweeper.sweep(t.Context())
	}()
	s.sweepAfter(0, s.storedUID)
	if err := <-other; err != nil {
		t.Error(err)
	}
	page, err := resources.List(t.Context(), "tokens/", "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page.Resources {
		if r.Message.(*storev1.JoinToken).GetAgent() == s.agent {
			t.Fatalf("%s is left", r.Name)
		}
	}
	after, err := resources.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changes, err := resources.Changes(t.Context(), 0, int(after.Sequence-before.Sequence))
	if err != nil {
		t.Fatal(err)
	}
	removed := 0
	for _, c := range changes {
		removed += len(c.GetEntries())
		if len(c.GetEntries()) > sweepWrites {
			t.Errorf("a change removed %d", len(c.GetEntries()))
		}
	}
	if removed < many || removed > many+20 { // and what other tests left
		t.Errorf("%d were removed, of %d", removed, many)
	}
}

// unanswering is a store that notes when it is asked, and does not answer.
type unanswering struct{ asked []time.Time }

func (u *unanswering) List(context.Context, string, string, int, int64) (store.Page, error) {
	u.asked = append(u.asked, time.Now())
	return store.Page{}, store.ErrOffline
}

func (u *unanswering) Update(context.Context, store.Meta, func(*store.Tx) error) (int64, error) {
	return 0, store.ErrOffline
}

// There is a sweep soon after the start, not at once, and every hour, whatever
// becomes of it.
func TestSweepTimes(t *testing.T) {
	firsts := make(map[time.Duration]bool)
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			asked := new(unanswering)
			ended := make(chan error, 1)
			start := time.Now()
			go func() { ended <- NewSweeper(asked, nil, time.Now, slog.New(slog.DiscardHandler)).Run(ctx) }()
			time.Sleep(sweepSpread + 3*sweepEvery - time.Nanosecond)
			synctest.Wait()
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("ended: %v", err)
			}
			if len(asked.asked) < 3 || len(asked.asked) > 4 {
				t.Fatalf("swept at %v", asked.asked)
			}
			first := asked.asked[0].Sub(start)
			if firsts[first] = true; first >= sweepSpread {
				t.Errorf("swept first after %s", first)
			}
			for i, at := range asked.asked {
				if at.Sub(asked.asked[0]) != time.Duration(i)*sweepEvery {
					t.Errorf("swept at %v", asked.asked)
				}
			}
		})
	}
	if len(firsts) == 1 {
		t.Error("control planes that start together sweep together")
	}
}
