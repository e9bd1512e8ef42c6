package xds

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

// P2: an acknowledgement means that the snapshot is enforced: it is sent after
// what it took away was cut.
func TestCutThenAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *plane
		cut := make(chan struct{})
		p = newPlane(t, func(v *replica.View) {
			if v.Snapshot.Revision() == 2 {
				<-cut
			}
		})
		s := p.serve()
		s.send("n2.1.1 grants -read")
		synctest.Wait()
		if _, held := p.replica.View().Snapshot.Lookup("namespaces/default/grants/read"); held {
			t.Error("still there while open calls are cut")
		}
		if len(s.requests) > 0 {
			t.Fatal("acknowledged while open calls are cut")
		}
		close(cut)
		s.answer("n2.1.1")
	})
}

// A refusal goes by name, and ends freshness at once, even if an answer to a
// request made before comes after it (P1).
func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := p.serve()
		asked, answer := make(chan struct{}, 1), make(chan struct{})
		p.set(func() {
			p.renew = func(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				asked <- struct{}{}
				<-answer
				return p.granted(ctx, r)
			}
		})
		<-asked
		time.Sleep(time.Millisecond)
		s.send("n2.1.1 grants bad@2 write@2")
		m := s.answer("n2.1.1")
		p.live(false)
		var bad errdetails.BadRequest
		if err := m.GetErrorDetail().GetDetails()[0].UnmarshalTo(&bad); err != nil {
			t.Fatal(err)
		}
		if v := bad.GetFieldViolations(); len(v) != 1 || v[0].GetField() != "namespaces/default/grants/bad" || v[0].GetDescription() == "" {
			t.Errorf("refused %v", v)
		}
		if len(p.client.Status().Refusals) != 1 {
			t.Errorf("status %+v", p.client.Status())
		}
		p.set(func() {
			p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				return nil, status.Error(codes.FailedPrecondition, "it refused bad")
			}
		})
		close(answer)
		p.live(false)
		time.Sleep(time.Minute)
		p.live(false)
		p.set(func() { p.renew = p.granted })
		s.send("n3.1.1 grants -bad")
		s.answer("n3.1.1")
		p.live(true)
	})
}

// P8: a control plane that is away is asked again, sooner at first, never all at
// once; and the next stream resumes with what is held.
func TestComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := p.serve()
		if got := s.asked[0].GetNode().GetMetadata().AsMap(); !cmp.Equal(got, map[string]any{
			"instance": strings.Repeat("0", 32), "version": "test", "revision": "0", "ordinal": "1", "fresh_for": "0",
		}) {
			t.Errorf("node metadata %v", got)
		}
		p.set(func() { p.refuse, p.tries = errAway, nil })
		s.done <- errAway
		time.Sleep(time.Minute)
		p.set(func() {
			for i := 1; i < len(p.tries); i++ {
				if gap := p.tries[i].Sub(p.tries[i-1]); gap > 8*time.Second {
					t.Errorf("waited %s", gap)
				}
			}
			if n := len(p.tries); n < 12 || n > 40 {
				t.Errorf("%d tries in a minute", n)
			}
			p.refuse = nil
		})
		p.live(false)
		s = <-p.opened
		got := make(map[string]string)
		for _, m := range s.asked {
			for name, version := range m.GetInitialResourceVersions() {
				got[short(name)] = version
			}
		}
		if diff := cmp.Diff(map[string]string{"me": "1", "read": "1"}, got); diff != "" {
			t.Errorf("resumes (-want +got):\n%s", diff)
		}
		if v := s.asked[0].GetNode().GetMetadata().AsMap()["revision"]; v != "1" {
			t.Errorf("states revision %v, want 1", v)
		}
		p.live(true) // it holds everything, so nothing was sent
	})
}

var errAway = status.Error(codes.Unavailable, "away")

// Another store's revisions cannot be compared: everything is forgotten.
func TestAnotherStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := p.serve()
		s.send("n9.1.1 grants write@9")
		s.answer("n9.1.1")
		p.set(func() {
			p.store = "another"
			p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				return nil, status.Error(codes.FailedPrecondition, "not yet")
			}
		})
		s.done <- errors.New("gone")
		s = <-p.opened
		p.live(false)
		for _, m := range s.asked {
			if len(m.GetInitialResourceVersions()) > 0 {
				t.Errorf("resumes with %v", m.GetInitialResourceVersions())
			}
		}
		if n := p.replica.View().Snapshot.Len(); n != 0 {
			t.Errorf("%d entries of another store", n)
		}
		s.send("n2.1.1 agents me@1")
		s.answer("n2.1.1")
		if got := p.replica.View().Snapshot.Revision(); got != 2 {
			t.Errorf("at revision %d, want 2", got)
		}
	})
}

// A stream that its control plane does not know, or one that breaks the
// protocol, is given up for another.
func TestGivesUpStream(t *testing.T) {
	for name, breaks := range map[string]func(p *plane, s *served){
		"unknown": func(p *plane, _ *served) {
			p.set(func() {
				p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
					return nil, status.Error(codes.NotFound, "no such stream")
				}
			})
		},
		"silent": func(p *plane, _ *served) {
			p.set(func() {
				p.renew = func(ctx context.Context, _ *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
			})
		},
		"backwards": func(_ *plane, s *served) { s.send("n2.1.1 agents me@1"); s.send("n1.1.1 grants -read") },
		"nonsense":  func(_ *plane, s *served) { s.send("m1.1.1 grants -read") },
		"giving":    func(_ *plane, s *served) { s.send("u3.1.1 grants write@3") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlane(t, nil)
				s := p.serve()
				breaks(p, s)
				start := time.Now()
				<-p.opened
				if took := time.Since(start); took > bound {
					t.Errorf("another stream after %s", took)
				}
				held := p.replica.View().Snapshot
				if _, ok := held.Lookup("namespaces/default/grants/read"); !ok || held.Len() != 2 {
					t.Errorf("holds %d entries: the breach took effect", held.Len())
				}
			})
		})
	}
}
