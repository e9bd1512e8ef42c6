package claims

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// claimantOf is what a key of the tests is called.
func claimantOf(t *testing.T, s *scene, key string) string {
	t.Helper()
	c, err := s.servers[0].admit(s.by(key), "/test", &grantv1.ClaimSessionRequest{Name: "x"}, newLimiter(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	return c.claimant
}

// P7: what an agent opens is claimed, is nobody's but its own, is recorded in the
// agent's name, and is opened once however often it is asked for.
func TestOpen(t *testing.T) {
	s := newScene(t)
	req := &grantv1.OpenSessionRequest{
		Purpose: "refunds", Ttl: durationpb.New(time.Minute), Limits: &grantv1.Limits{MaxCalls: 7}, RequestId: request(1),
	}
	first, err := s.servers[0].OpenSession(s.by("k1"), req)
	if err != nil {
		t.Fatal(err)
	}
	want := &grantv1.Session{
		CreateTime: timestamppb.New(s.clock()), AgentUid: "u1", Origin: grantv1.Session_AGENT, Purpose: "refunds",
		ExpireTime: timestamppb.New(s.clock().Add(time.Minute)), Limits: &grantv1.Limits{MaxCalls: 7},
		Claimant: claimantOf(t, s, "k1"), Actor: "spiffe://reeve.test/ns/default/agent/" + s.id,
	}
	got := first.GetSession()
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(got, "name", "etag")); diff != "" {
		t.Errorf("opened (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(got.GetName(), grant.AgentName("default", s.id)+"/sessions/s-") || !strings.HasPrefix(got.GetClaimant(), "sha256:") {
		t.Errorf("opened %s, claimed by %s", got.GetName(), got.GetClaimant())
	}
	again, err := s.servers[1].OpenSession(s.by("k1"), req)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again, protocmp.Transform()); diff != "" {
		t.Errorf("asked again (-first +again):\n%s", diff)
	}
	other, err := s.servers[1].OpenSession(s.by("k2"), req)
	if err != nil {
		t.Fatal(err)
	}
	if other.GetSession().GetName() == got.GetName() {
		t.Error("another sidecar's request with the same id opened the same session")
	}
	changes, err := replicas[0].Changes(t.Context(), 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	c := changes[1]
	if c.GetActor() != want.GetActor() || c.GetAction() != grantv1.Claims_OpenSession_FullMethodName ||
		len(c.GetEntries()) != 1 || c.GetEntries()[0].GetName() != got.GetName() || c.GetRevision() != first.GetRevision() {
		t.Errorf("recorded as %v, want revision %d", c, first.GetRevision())
	}
}

// What cannot be a session is not opened, and what may not act opens none.
func TestOpenRefused(t *testing.T) {
	s := newScene(t)
	open := func(agent, uid string, change func(*grantv1.OpenSessionRequest)) error {
		req := &grantv1.OpenSessionRequest{RequestId: request(2)}
		change(req)
		_, err := s.servers[0].OpenSession(as(t.Context(), agent, uid, "k1"), req)
		return err
	}
	for name, change := range map[string]func(*grantv1.OpenSessionRequest){
		"no request": func(r *grantv1.OpenSessionRequest) { r.RequestId = "" },
		"purpose":    func(r *grantv1.OpenSessionRequest) { r.Purpose = "Refunds!" },
		"too long":   func(r *grantv1.OpenSessionRequest) { r.Ttl = durationpb.New(25 * time.Hour) },
		"too short":  func(r *grantv1.OpenSessionRequest) { r.Ttl = durationpb.New(0) },
		"scope": func(r *grantv1.OpenSessionRequest) {
			r.Limits = &grantv1.Limits{MaxCalls: 1, Scope: grantv1.Limits_ALL}
		},
		"rate of no":  func(r *grantv1.OpenSessionRequest) { r.Limits = &grantv1.Limits{Rate: &grantv1.Rate{Calls: 1}} },
		"many a call": func(r *grantv1.OpenSessionRequest) { r.Limits = &grantv1.Limits{MaxCalls: -1} },
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, open(s.id, "u1", change), codes.InvalidArgument) })
	}
	asItIs := func(*grantv1.OpenSessionRequest) {}
	wantCode(t, open("nobody", "u1", asItIs), codes.PermissionDenied)
	wantCode(t, open(s.id, "u0", asItIs), codes.PermissionDenied)
	wantCode(t, open(s.id, "", asItIs), codes.PermissionDenied)
	s.put(s.agent("u1", grantv1.Agent_SUSPENDED))
	wantCode(t, open(s.id, "u1", asItIs), codes.PermissionDenied)
	_, err := s.servers[0].OpenSession(t.Context(), &grantv1.OpenSessionRequest{RequestId: request(2)})
	wantCode(t, err, codes.Unauthenticated)
}

// An agent has so many sessions at once, whichever control plane it asks, and not
// counting those that are over or that administrators started.
func TestOpenTooMany(t *testing.T) {
	s := newScene(t)
	s.put(s.session("s-admin"))
	var wg sync.WaitGroup
	var opened, refused atomic.Int32
	for i := range maxOpened + 8 {
		wg.Go(func() {
			_, err := s.servers[i%2].OpenSession(s.by("k1"), &grantv1.OpenSessionRequest{RequestId: request(i), Ttl: durationpb.New(time.Minute)})
			if err == nil {
				opened.Add(1)
			} else {
				wantCode(t, err, codes.ResourceExhausted)
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if opened.Load() != maxOpened || refused.Load() != 8 {
		t.Errorf("%d opened and %d refused, want %d and 8", opened.Load(), refused.Load(), maxOpened)
	}
	s.pass(time.Minute)
	if _, err := s.servers[0].OpenSession(s.by("k1"), &grantv1.OpenSessionRequest{RequestId: request(1000)}); err != nil {
		t.Errorf("those before are over: %v", err)
	}
}

// However many ask at once, at two control planes, one key has the session.
func TestClaimRace(t *testing.T) {
	s := newScene(t)
	for round := range 4 {
		session := s.session("s-" + request(round))
		s.put(session)
		var wg sync.WaitGroup
		var won [2]atomic.Int32
		revisions := make(chan int64, 64)
		for i := range 64 {
			wg.Go(func() {
				key := i % 2
				resp, err := s.servers[i/2%2].ClaimSession(s.by([]string{"k1", "k2"}[key]), &grantv1.ClaimSessionRequest{Name: session.GetName()})
				if err != nil {
					wantCode(t, err, codes.FailedPrecondition)
					return
				}
				won[key].Add(1)
				revisions <- resp.GetRevision()
			})
		}
		wg.Wait()
		if a, b := won[0].Load(), won[1].Load(); a+b != 32 || a*b != 0 {
			t.Errorf("%d claims by one key and %d by the other were granted, want 32 and none", a, b)
		}
		close(revisions)
		first := <-revisions
		for r := range revisions {
			if r != first {
				t.Errorf("claimed at revision %d and %d", first, r)
			}
		}
		for _, server := range s.servers { // it is not the number of requests that is tested
			server.changes = newLimiter(changesPerSecond, changesAtOnce)
		}
	}
}

// P5, P6: a session is claimed by its own agent, of its incarnation, while it goes
// on.
func TestClaimRefused(t *testing.T) {
	s := newScene(t)
	s.put(s.session("s-1"))
	earlier := s.session("s-0")
	earlier.AgentUid = "u0"
	s.put(earlier, &grantv1.Agent{Name: grant.AgentName("default", "other"), Uid: "u1", State: grantv1.Agent_ACTIVE})
	claim := func(agent, name string) error {
		_, err := s.servers[0].ClaimSession(as(t.Context(), agent, "u1", "k1"), &grantv1.ClaimSessionRequest{Name: name})
		return err
	}
	own := s.session("s-1").GetName()
	wantCode(t, claim("other", own), codes.NotFound)
	wantCode(t, claim(s.id, earlier.GetName()), codes.NotFound)
	wantCode(t, claim(s.id, own+"0"), codes.NotFound)
	wantCode(t, claim(s.id, grant.AgentName("default", s.id)), codes.NotFound)
	wantCode(t, claim(s.id, "nonsense"), codes.NotFound)
	if got := s.stored(own).GetClaimant() + s.stored(earlier.GetName()).GetClaimant(); got != "" {
		t.Errorf("claimed by %s", got)
	}
	s.pass(time.Hour)
	wantCode(t, claim(s.id, own), codes.NotFound)
	s.pass(-time.Second)
	wantCode(t, claim(s.id, own), codes.OK)
}

// A session is ended by who has it, or by anybody if nobody has; and then there is
// none to claim, whoever comes first.
func TestClose(t *testing.T) {
	s := newScene(t)
	end := func(key, id string) (int64, error) {
		resp, err := s.servers[1].CloseSession(s.by(key), &grantv1.CloseSessionRequest{Name: grant.SessionName("default", s.id, id)})
		return resp.GetRevision(), err
	}
	s.put(s.session("s-1"), s.session("s-2"))
	name := s.session("s-1").GetName()
	if _, err := s.servers[0].ClaimSession(s.by("k1"), &grantv1.ClaimSessionRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	_, err := end("k2", "s-1")
	wantCode(t, err, codes.FailedPrecondition)
	for _, c := range []struct {
		key, id string
		ended   bool
	}{{"k1", "s-1", true}, {"k1", "s-1", false}, {"k2", "s-2", true}, {"k2", "nothing", false}} {
		revision, err := end(c.key, c.id)
		if err != nil || (revision > 0) != c.ended {
			t.Errorf("%s ends %s at %d (%v), want ended %t", c.key, c.id, revision, err, c.ended)
		}
	}
	if s.stored(name) != nil {
		t.Error("the session is there still")
	}
	_, err = s.servers[0].ClaimSession(s.by("k1"), &grantv1.ClaimSessionRequest{Name: name})
	wantCode(t, err, codes.NotFound)
}

// P2: whoever ends a session while it is claimed, at another control plane, has
// ended it: a claim does not bring it back.
func TestEndRacesClaim(t *testing.T) {
	s := newScene(t)
	for round := range 20 {
		session := s.session("s-" + request(round))
		s.put(session)
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				_, err := s.servers[i].ClaimSession(s.by("k1"), &grantv1.ClaimSessionRequest{Name: session.GetName()})
				if err != nil {
					wantCode(t, err, codes.NotFound)
				}
			})
		}
		wg.Go(func() {
			meta := store.Meta{Action: t.Name()}
			if _, err := replicas[1].Update(t.Context(), meta, func(tx *store.Tx) error { return tx.Delete(session.GetName()) }); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if got := s.stored(session.GetName()); got != nil {
			t.Fatalf("it was ended, and is there: %v", got)
		}
	}
}

// One agent that asks too often is refused, and the others are not.
func TestTooOften(t *testing.T) {
	s := newScene(t)
	ask := func(agent string) error {
		_, err := s.servers[0].ClaimSession(as(t.Context(), agent, "u1", "k1"), &grantv1.ClaimSessionRequest{Name: "nonsense"})
		return err
	}
	for range changesAtOnce {
		wantCode(t, ask(s.id), codes.NotFound)
	}
	wantCode(t, ask(s.id), codes.ResourceExhausted)
	wantCode(t, ask("another"), codes.NotFound)
	s.pass(time.Second)
	wantCode(t, ask(s.id), codes.NotFound)
}

// slow is a store whose changes take until they are let go.
type slow struct {
	keeper
	begun chan struct{}
	let   chan struct{}
}

func (s slow) Update(ctx context.Context, _ store.Meta, _ func(*store.Tx) error) (int64, error) {
	s.begun <- struct{}{}
	select {
	case <-s.let:
		return 0, store.ErrConflict
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// P2: however much a fleet asks for at once, a revocation does not wait behind all
// of it: few are in the line where changes wait for each other.
func TestFewInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := slow{begun: make(chan struct{}, 100), let: make(chan struct{})}
		server, err := NewServer(held, time.Now, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var late atomic.Int32
		for range 20 {
			wg.Go(func() {
				_, err := server.CloseSession(as(ctx, "a", "u1", "k1"), &grantv1.CloseSessionRequest{Name: grant.SessionName("default", "a", "s-1")})
				if status.Code(err) == codes.DeadlineExceeded {
					late.Add(1)
				}
			})
		}
		synctest.Wait()
		if got := len(held.begun); got != changesInLine {
			t.Errorf("%d are in line, want %d", got, changesInLine)
		}
		held.let <- struct{}{}
		synctest.Wait()
		if got := len(held.begun); got != changesInLine+1 {
			t.Errorf("after one is done, %d were in line, want %d", got, changesInLine+1)
		}
		wg.Wait() // nobody waits for longer than the caller does
		if late.Load() != 19 {
			t.Errorf("%d were too late, want 19", late.Load())
		}
	})
}
