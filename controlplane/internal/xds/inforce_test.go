package xds

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// P2: a revocation is in force when the sidecar has acknowledged it, and not
// before.
func TestInForceOnAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		s.renewCode(codes.OK)

		revoked := p.remove(grant.GrantName("default", "reads"))
		done := make(chan time.Duration, 1)
		go func() { done <- p.inForce(t, revoked) }()
		all := s.sync()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		select {
		case took := <-done:
			t.Fatalf("in force after %s, unacknowledged", took)
		default:
		}
		s.ack(all...)
		if took := <-done; took != 3*time.Second {
			t.Errorf("in force after %s, want at the acknowledgement, after 3s", took)
		}
		s.renewCode(codes.OK)
	})
}

// P2: without an acknowledgement a revocation is in force when freshness has
// ended for sure, and not a nanosecond before.
func TestInForceOnceStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		s.renewCode(codes.OK)
		time.Sleep(time.Second)
		revoked := p.remove(grant.GrantName("default", "reads"))
		if took, want := p.inForce(t, revoked), bound+bound/500-time.Second; took != want {
			t.Errorf("in force after %s, want %s", took, want)
		}
		// It cannot be fresh again before it has acknowledged.
		s.renewCode(codes.FailedPrecondition)
		s.ack(s.sync()...)
		s.renewCode(codes.OK)
	})
}

// P2: the answer names the longest bound of the set that is held, and a wait counts
// with it.
func TestNamesLongestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := allow("long", "*", "a")
		long.FreshnessBound = durationpb.New(time.Minute)
		p := newPlane(t, Config{}, append(crm(), long)...)
		for agent, want := range map[string]time.Duration{"a": time.Minute, "b": 0} {
			s := p.open(t, agent)
			s.ack(s.sync()...)
			m, err := s.renew(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.GetBound().AsDuration() != bound || m.GetLongestBound().AsDuration() != want {
				t.Errorf("%s: granted %v, want a longest bound of %s", agent, m, want)
			}
		}
		if took, want := p.inForce(t, p.remove(long.GetName())), time.Minute+time.Minute/500; took != want {
			t.Errorf("in force after %s, want %s", took, want)
		}
	})
}

// P2: who comes with freshness from another control plane is waited for until it
// acknowledges, or as long as that lasts; who does not say how long, for longest.
func TestComesFresh(t *testing.T) {
	for said, want := range map[string]time.Duration{
		"0": 0, "5000": 5010 * time.Millisecond, "900000": rollout.Outlast(rollout.MaxBound),
		"": rollout.Outlast(rollout.MaxBound), "-1": rollout.Outlast(rollout.MaxBound), "1e3": rollout.Outlast(rollout.MaxBound),
		"9999999999999999": rollout.Outlast(rollout.MaxBound),
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlane(t, Config{}, crm()...)
			s := &sidecar{t: t, conn: p.dial("a", "a-1", "key-a"), freshFor: said, has: make(map[string]string)}
			s.connect(strings.Repeat("a", 32))
			s.sync()
			if took := p.inForce(t, p.put(allow("more", "*", "a"))); took != want {
				t.Errorf("%q: in force after %s, want %s", said, took, want)
			}
		})
	}
}

// P2: who comes with freshness is sent nothing before this control plane has read
// the head: it may have ended, and would not be asked about what it sent. Who comes
// without needs no store to get its set.
func TestComesFreshWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		fenced := errors.New("ended")
		p.headErr.Store(&fenced)
		s := &sidecar{t: t, conn: p.dial("a", "a-1", "key-a"), freshFor: "5000", has: make(map[string]string)}
		s.connect(strings.Repeat("a", 32))
		if m, err := s.stream.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("was sent %v, %v", m, err)
		}
		p.open(t, "a").sync()
	})
}

// P2: a sidecar whose connection is lost may be fresh for the rest of its bound.
func TestInForceCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		s.renewCode(codes.OK)
		_ = s.conn.Close()
		synctest.Wait()
		revoked := p.remove(grant.GrantName("default", "reads"))
		if took, want := p.inForce(t, revoked), bound+bound/500; took != want {
			t.Errorf("in force after %s, want %s", took, want)
		}
		if left := p.rollout.List(); len(left) != 0 {
			t.Errorf("still known: %v", left)
		}
	})
}
