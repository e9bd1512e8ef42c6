package claims

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// drawing asks for calls of the scene's grant.
func (s *scene) drawing(ctx context.Context, server int, calls int64, n int) (*grantv1.DrawCallsResponse, error) {
	return s.servers[server].DrawCalls(ctx, &grantv1.DrawCallsRequest{
		Grant: grant.GrantName("default", s.id), Uid: "grant-of-" + s.id, Calls: calls, RequestId: request(n),
	})
}

// P6: however many draw at once, at two control planes, no more is drawn than the
// grant allows; and no draw is a change that anybody is told of.
func TestDrawRace(outer *testing.T) {
	for _, c := range []struct {
		scope  grantv1.Limits_Scope
		agents int
		want   int64
	}{{grantv1.Limits_AGENT, 1, 100}, {grantv1.Limits_ALL, 4, 100}, {grantv1.Limits_AGENT, 4, 400}} {
		outer.Run(c.scope.String(), func(t *testing.T) {
			s := newScene(outer)
			s.id += string('a'+rune(c.agents)) + string('a'+rune(c.scope))
			agents := make([]string, c.agents)
			for i := range agents {
				a := s.agent("u1", grantv1.Agent_ACTIVE)
				agents[i] = s.id + string('a'+rune(i))
				a.Name, a.Uid = grant.AgentName("default", agents[i]), "u-"+agents[i]
				s.put(a)
			}
			s.put(s.limited(s.id, c.scope, 100))
			before, err := replicas[0].Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var drawn atomic.Int64
			for i := range 128 {
				wg.Go(func() {
					agent := agents[i%len(agents)]
					resp, err := s.drawing(as(t.Context(), agent, "u-"+agent, "k1"), i/2%2, 7, i)
					if err != nil {
						t.Error(err)
					}
					drawn.Add(resp.GetCalls())
				})
			}
			wg.Wait()
			if drawn.Load() != c.want {
				t.Errorf("%d calls were drawn, want %d", drawn.Load(), c.want)
			}
			after, err := replicas[0].Head(t.Context())
			if err != nil || after.Revision != before.Revision {
				t.Errorf("the head went from %d to %d (%v)", before.Revision, after.Revision, err)
			}
		})
	}
}

// A request that is repeated gets its block again, and nobody else does.
func TestDrawAgain(t *testing.T) {
	s := newScene(t)
	s.put(s.limited(s.id, grantv1.Limits_AGENT, 100))
	wantBlock := func(key string, n int, calls, left int64) {
		t.Helper()
		resp, err := s.drawing(s.by(key), n%2, 10, n)
		if err != nil || resp.GetCalls() != calls || resp.GetLeft() != left {
			t.Errorf("drew %d, left %d (%v), want %d and %d", resp.GetCalls(), resp.GetLeft(), err, calls, left)
		}
	}
	wantBlock("k1", 1, 10, 90)
	wantBlock("k1", 1, 10, 90)
	wantBlock("k2", 1, 10, 80)
	wantBlock("k1", 1, 10, 80)
	for n := 2; n < 9; n++ {
		wantBlock("k1", n, 10, int64(90-10*n))
	}
	wantBlock("k1", 9, 10, 0) // the hundredth
	wantBlock("k1", 10, 0, 0)
	wantBlock("k1", 1, 10, 0)
	// The grant is kept and gives more; less than was drawn is nothing left.
	s.put(s.limited(s.id, grantv1.Limits_AGENT, 105))
	wantBlock("k1", 11, 5, 0)
	s.put(s.limited(s.id, grantv1.Limits_AGENT, 50))
	wantBlock("k1", 12, 0, 0)
	// Made anew under its name, nothing of it is drawn.
	anew := s.limited(s.id, grantv1.Limits_AGENT, 3)
	anew.Uid += "-2"
	s.put(anew)
	_, err := s.drawing(s.by("k1"), 0, 10, 13)
	wantCode(t, err, codes.NotFound)
	resp, err := s.servers[0].DrawCalls(s.by("k1"), &grantv1.DrawCallsRequest{Grant: anew.GetName(), Uid: anew.GetUid(), Calls: 10, RequestId: request(13)})
	if err != nil || resp.GetCalls() != 3 {
		t.Errorf("drew %v (%v), want 3", resp, err)
	}
}

// P5: nothing is drawn from a grant that is not the agent's, that there is not, or
// that has nothing to share; those that it must not know of are told alike.
func TestDrawRefused(t *testing.T) {
	s := newScene(t)
	for name, c := range map[string]struct {
		g    *grantv1.Grant
		want codes.Code
	}{
		"another's":         {s.limited("others", grantv1.Limits_ALL, 10), codes.NotFound},
		"made anew":         {s.limited(s.id+"-2", grantv1.Limits_ALL, 10), codes.NotFound},
		"of each sidecar":   {s.limited(s.id, grantv1.Limits_SIDECAR, 10), codes.FailedPrecondition},
		"of unset scope":    {s.limited(s.id, grantv1.Limits_SCOPE_UNSPECIFIED, 10), codes.FailedPrecondition},
		"without an end":    {s.limited(s.id, grantv1.Limits_ALL, 0), codes.FailedPrecondition},
		"of all, the right": {s.limited(s.id, grantv1.Limits_ALL, 10), codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "another's" {
				c.g.Uid = "grant-of-" + s.id
			}
			s.put(c.g)
			_, err := s.drawing(s.by("k1"), 0, 1, 1)
			wantCode(t, err, c.want)
		})
	}
	s.put(s.limited(s.id, grantv1.Limits_ALL, 10))
	_, err := s.drawing(as(t.Context(), s.id, "u0", "k1"), 0, 1, 2)
	wantCode(t, err, codes.PermissionDenied)
	_, err = s.drawing(s.by("k1"), 0, 0, 2)
	wantCode(t, err, codes.InvalidArgument)
	for _, name := range []string{"namespaces/other/grants/" + s.id, "nonsense", grant.AgentName("default", s.id)} {
		_, err = s.servers[0].DrawCalls(s.by("k1"), &grantv1.DrawCallsRequest{Grant: name, Uid: "grant-of-" + s.id, Calls: 1, RequestId: request(3)})
		wantCode(t, err, codes.NotFound)
	}
	s.put(s.agent("u1", grantv1.Agent_SUSPENDED))
	_, err = s.drawing(s.by("k1"), 0, 1, 4)
	wantCode(t, err, codes.PermissionDenied)
	s.put(s.agent("u1", grantv1.Agent_ACTIVE))
	s.remove(grant.GrantName("default", s.id))
	_, err = s.drawing(s.by("k1"), 0, 1, 5)
	wantCode(t, err, codes.NotFound)
}

// P2: nothing is drawn from a grant once its removal is stored, however a draw
// under way saw it.
func TestDrawRacesRemoval(t *testing.T) {
	s := newScene(t)
	s.put(s.limited(s.id, grantv1.Limits_ALL, 1000))
	count := store.Count{GrantUID: "grant-of-" + s.id, AgentUID: "u1"}
	decided := 0
	c, err := s.servers[0].admit(s.by("k1"), "/test", &grantv1.ClaimSessionRequest{Name: "x"}, newLimiter(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	err = replicas[1].Draw(t.Context(), grant.GrantName("default", s.id), c.name, count, deciding(c, count, func() {
		if decided++; decided == 1 {
			s.remove(grant.GrantName("default", s.id))
		}
	}))
	if decided != 2 || err == nil {
		t.Errorf("decided %d times, then %v: want again, and no grant", decided, err)
	}
}

// deciding draws one call, after something happened.
func deciding(c caller, count store.Count, happens func()) func(store.Draw) (*storev1.Drawn, error) {
	return func(d store.Draw) (*storev1.Drawn, error) {
		happens()
		if _, err := c.limitsOf(d, count.GrantUID); err != nil {
			return nil, err
		}
		d.All.Calls++
		return d.All, nil
	}
}

// One control plane, one grant: draws wait for each other.
func BenchmarkDraw(b *testing.B) {
	s := &scene{TB: b, id: fmt.Sprint("bench-", scenes.Add(1)), now: time.Now()}
	server, err := NewServer(replicas[0], time.Now, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		b.Fatal(err)
	}
	server.draws = newLimiter(rate.Inf, 0)
	s.put(s.agent("u1", grantv1.Agent_ACTIVE), s.limited(s.id, grantv1.Limits_ALL, 1_000_000_000))
	s.servers[0] = server
	n := 0
	for b.Loop() {
		n++
		if _, err := s.drawing(as(b.Context(), s.id, "u1", "k1"), 0, 1, n); err != nil {
			b.Fatal(err)
		}
	}
}
