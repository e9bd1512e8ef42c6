package claims

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// sweeper sweeps as told by what is stored, and thinks that all of names are over.
func (s *scene) sweeper(replica int, names ...string) *Sweeper {
	over := func(time.Time) []string { return names }
	return NewSweeper(replicas[replica], over, s.clock, slog.New(slog.DiscardHandler))
}

// P6: sessions that are over go, a minute later, and no others, whatever the
// sweeper was told.
func TestSweepSessions(t *testing.T) {
	s := newScene(t)
	var names []string
	for i, left := range []time.Duration{-time.Hour, -sessionKept - 1, -sessionKept, -time.Second, time.Second} {
		m := s.session("s-" + string('a'+rune(i)))
		m.ExpireTime = timestamppb.New(s.clock().Add(left))
		s.put(m)
		names = append(names, m.GetName())
	}
	names = append(names, grant.SessionName("default", s.id, "s-gone"), grant.AgentName("default", s.id))
	for i := range replicas { // the second finds nothing to do
		if err := s.sweeper(i, names...).sweepSessions(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range names[:5] {
		if there := s.stored(name) != nil; there != (i >= 2) {
			t.Errorf("%s is there: %t", name, there)
		}
	}
	if _, err := replicas[0].Get(t.Context(), grant.AgentName("default", s.id)); err != nil {
		t.Errorf("what is no session was swept: %v", err)
	}
	changes, err := replicas[0].Changes(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if c := changes[0]; c.GetAction() != "controlplane.sweep" || len(c.GetEntries()) != 2 {
		t.Errorf("recorded as %v", c)
	}
}

// Counts go with the grant or the agent that they are of, and not before.
func TestSweepDrawn(t *testing.T) {
	s := newScene(t)
	own, all := s.limited(s.id, grantv1.Limits_AGENT, 10), s.limited(s.id, grantv1.Limits_ALL, 10)
	all.Name, all.Uid = all.GetName()+"-all", all.GetUid()+"-all"
	s.put(own, all)
	for _, g := range []*grantv1.Grant{own, all} {
		if _, err := s.servers[0].DrawCalls(s.by("k1"), &grantv1.DrawCallsRequest{
			Grant: g.GetName(), Uid: g.GetUid(), Calls: 1, RequestId: request(1),
		}); err != nil {
			t.Fatal(err)
		}
	}
	wantCounts := func(want ...store.Count) {
		t.Helper()
		if err := s.sweeper(1).sweepDrawn(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []store.Count
		for after, more := (store.Count{}), true; more; {
			var page []store.Drawn
			var err error
			if page, more, err = replicas[0].Drawns(t.Context(), after, 2); err != nil { // in pages
				t.Fatal(err)
			}
			for _, d := range page {
				after = d.Count
				if d.GrantUID == own.GetUid() || d.GrantUID == all.GetUid() {
					got = append(got, d.Count)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("counts are %v, want %v", got, want)
		}
	}
	ofOwn, ofAll := store.Count{GrantUID: own.GetUid(), AgentUID: "u1"}, store.Count{GrantUID: all.GetUid()}
	wantCounts(ofAll, ofOwn)
	s.put(s.agent("u2", grantv1.Agent_ACTIVE))
	wantCounts(ofAll)
	anew := s.limited(s.id, grantv1.Limits_ALL, 10)
	anew.Name, anew.Uid = all.GetName(), "another"
	s.put(anew)
	wantCounts()
}

// broken is a store that does not answer.
type broken struct{ sweepable }

func (broken) Update(context.Context, store.Meta, func(*store.Tx) error) (int64, error) {
	return 0, store.ErrOffline
}

// A sweep that fails is made again, about every minute, until the end.
func TestSweepsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sweeps := 0
		over := func(time.Time) []string { sweeps++; return []string{"x"} }
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := NewSweeper(broken{}, over, time.Now, slog.New(slog.DiscardHandler)).Run(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || sweeps < 60 || sweeps > 120 {
			t.Errorf("%d sweeps in an hour, then %v", sweeps, err)
		}
	})
}

// shifting is a store in which, between two pages of counts, a grant is made anew
// and drawn from.
type shifting struct {
	sweepable
	uid  string // of the grant
	gone []store.Count
}

func (s *shifting) Get(context.Context, string) (store.Resource, error) {
	return store.Resource{Message: &grantv1.Grant{Uid: s.uid}}, nil
}

func (s *shifting) Drawns(_ context.Context, after store.Count, _ int) (all []store.Drawn, more bool, err error) {
	if after != (store.Count{}) {
		s.uid = "b"
	}
	return []store.Drawn{{Count: store.Count{GrantUID: s.uid}, Drawn: &storev1.Drawn{Grant: "g"}}}, s.uid == "a", nil
}

func (s *shifting) DeleteDrawn(_ context.Context, gone []store.Count) error {
	s.gone = append(s.gone, gone...)
	return nil
}

// P6: what was drawn from a grant that was made anew during a sweep stays drawn.
func TestSweepDrawnMeanwhile(t *testing.T) {
	s := &shifting{uid: "a"}
	if err := NewSweeper(s, nil, time.Now, slog.New(slog.DiscardHandler)).sweepDrawn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.gone) > 0 || s.uid != "b" {
		t.Errorf("swept %v, which is drawn from", s.gone)
	}
}
