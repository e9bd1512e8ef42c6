package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// inForce awaits a revision and returns after how long it was in force.
func (p *plane) inForce(t *testing.T, revision int64) time.Duration {
	t.Helper()
	start := time.Now()
	if err := p.rollout.Await(t.Context(), revision, nil); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

func crm() []proto.Message {
	return []proto.Message{
		agentOf("a"), agentOf("b"), serverOf("crm"), toolOf("crm", "read"), toolOf("crm", "write"),
		allow("reads", "crm/read", "a"), allow("writes", "crm/*", "b"),
	}
}

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

// A change that is none of an agent's business wakes nobody and waits for nobody.
func TestOthersAreNotConcerned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		s.renewCode(codes.OK)
		if took := p.inForce(t, p.remove(grant.GrantName("default", "writes"))); took != 0 {
			t.Errorf("in force after %s, want at once", took)
		}
		m, err := s.renew(t.Context())
		if err != nil || m.GetRevision() != p.head.Load() {
			t.Errorf("renewed at %d (%v), want the head, %d", m.GetRevision(), err, p.head.Load())
		}
	})
}

// P5: a sidecar is sent its own agent's things, and learns of nothing else,
// whatever it asks for.
func TestOwnSetOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		all := s.sync()
		want := []string{
			grant.AgentName("default", "a"), grant.GrantName("default", "reads"),
			grant.ServerName("default", "crm"), grant.ToolName("default", "crm", "read"),
		}
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(s.has))); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		for _, m := range all {
			text := fmt.Sprint(m)
			for _, word := range []string{"agents/b", "writes", "crm/tools/write", "subjects"} {
				if strings.Contains(text, word) {
					t.Errorf("response speaks of %s: %s", word, text)
				}
			}
		}
		s.ack(all...)
		theirs, nonsense := grant.GrantName("default", "writes"), grant.GrantName("default", "nonsense")
		s.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[3], ResourceNamesSubscribe: []string{theirs, nonsense}})
		m := s.receive()
		if diff := cmp.Diff([]string{nonsense, theirs}, m.GetRemovedResources()); diff != "" || len(m.GetResources()) > 0 {
			t.Errorf("another agent's name and nonsense are told apart (-want +got):\n%s", diff)
		}
	})
}

// Nobody but an agent of the right incarnation that may act is served.
func TestWhoIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, append(crm(), suspended("s"))...)
		for _, c := range []struct{ agent, uid string }{{"nobody", "nobody-1"}, {"a", "a-0"}, {"s", "s-1"}} {
			s := &sidecar{t: t, conn: p.dial(c.agent, c.uid, "k")}
			s.dial()
			s.ended(codes.PermissionDenied)
			s.id = "0123456789abcdef"
			s.renewCode(codes.PermissionDenied)
		}
	})
}

// A suspended agent's sidecar is told, and then its stream is closed: when it has
// acknowledged, or after a second.
func TestSuspended(t *testing.T) {
	for _, acknowledges := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlane(t, Config{}, crm()...)
			s := p.open(t, "a")
			s.ack(s.sync()...)
			s.renewCode(codes.OK)
			start := time.Now()
			revision := p.put(suspended("a"))
			all := s.sync()
			if got := s.has[grant.AgentName("default", "a")]; got != fmt.Sprint(revision) {
				t.Errorf("has the agent at %q, want %d", got, revision)
			}
			if acknowledges {
				s.ack(all...)
				s.ended(codes.PermissionDenied)
				if took := p.inForce(t, revision); took != 0 {
					t.Errorf("acknowledged, but in force after %s", took)
				}
				return
			}
			s.ended(codes.Canceled)
			if took := time.Since(start); took != closeWithin {
				t.Errorf("closed after %s, want %s", took, closeWithin)
			}
			if took, want := p.inForce(t, revision), bound+bound/500-closeWithin; took != want {
				t.Errorf("in force after %s, want %s", took, want)
			}
		})
	}
}

// An agent made anew under an old name inherits nothing: the old one's sidecar
// loses what it has.
func TestMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		anew := agentOf("a")
		anew.Uid = "a-2"
		p.put(anew)
		s.ack(s.sync()...)
		if len(s.has) != 0 {
			t.Errorf("still has %v", s.has)
		}
		s.ended(codes.PermissionDenied)
	})
}

// An answer to what was not sent ends the stream.
func TestAnswerToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		all := s.sync()
		s.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: all[0].GetTypeUrl(), ResponseNonce: "n2.1.1"})
		s.ended(codes.InvalidArgument)
	})
}

// A refusal is known by name, keeps freshness away, and ends with a newer
// version that is accepted.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		p.put(allow("reads", "crm/write", "a"))
		for _, m := range s.sync() {
			if m.GetTypeUrl() == typeURLs[3] {
				s.nack(m, grant.GrantName("default", "reads"))
			} else {
				s.ack(m)
			}
		}
		start := time.Now()
		_, err := s.renew(t.Context())
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "grants/reads") {
			t.Errorf("renew: %v, want it to name what was refused", err)
		}
		if took := time.Since(start); took != renewWithin {
			t.Errorf("refused after %s, want %s", took, renewWithin)
		}
		if r := p.rollout.List()[0].GetRefusals(); len(r) != 1 || r[0].GetRevision() != 2 || r[0].GetDetail() != "bad" {
			t.Errorf("refusals %v", r)
		}
		p.put(allow("reads", "crm/read", "a"))
		s.ack(s.sync()...)
		s.renewCode(codes.OK)
	})
}

// Renew waits for the sidecar to hold what the store holds.
func TestRenewWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		all := s.sync()
		time.AfterFunc(1500*time.Millisecond, func() { s.ack(all...) })
		start := time.Now()
		s.renewCode(codes.OK)
		if took := time.Since(start); took != 1500*time.Millisecond {
			t.Errorf("granted after %s, want at the acknowledgement", took)
		}
	})
}

// A sidecar may ask for freshness before its first request was read.
func TestRenewComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := &sidecar{t: t, conn: p.dial("a", "a-1", "k"), has: make(map[string]string)}
		s.dial()
		time.AfterFunc(time.Second, func() {
			s.ask("00000000000000000000000000abcdef", typeURLs[:]...)
			s.ack(s.sync()...)
		})
		s.renewCode(codes.OK)
	})
}

// P2: freshness is granted only by a control plane that has applied what the
// store holds, and that can reach it.
func TestRenewNeedsTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		p.head.Add(1) // a change that has not come here yet
		s.renewCode(codes.FailedPrecondition)
		p.head.Add(-1)
		s.renewCode(codes.OK)
		err := errors.New("no quorum")
		p.headErr.Store(&err)
		s.renewCode(codes.Unavailable)
	})
}

// Freshness is for the sidecar that holds the stream.
func TestRenewOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		a, b := p.open(t, "a"), p.open(t, "b")
		a.ack(a.sync()...)
		b.ack(b.sync()...)
		a.renewCode(codes.OK)
		b.id = a.id
		b.renewCode(codes.NotFound)
		thief := &sidecar{t: t, conn: p.dial("a", "a-1", "another-key"), id: a.id}
		thief.renewCode(codes.NotFound)
		a.id = "0123456789abcdef0123456789abcdef"
		a.renewCode(codes.NotFound)
	})
}

// A read of the head serves only those who asked before it began.
func TestHeadsAreReadAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		reads := 0
		h := newHeads(func(context.Context) (int64, error) {
			mu.Lock()
			reads++
			n := int64(reads)
			mu.Unlock()
			time.Sleep(time.Second)
			return n, nil
		})
		var got [4]int64
		var asking sync.WaitGroup
		ask := func(i int) { asking.Go(func() { got[i], _ = h.newest(t.Context()) }) }
		ask(0)
		synctest.Wait() // the first read runs
		for i := 1; i < 4; i++ {
			ask(i)
		}
		asking.Wait()
		if want := [4]int64{1, 2, 2, 2}; got != want {
			t.Errorf("served by reads %v, want %v", got, want)
		}
	})
}

// A sidecar that reads nothing costs nothing, and then gets one set.
func TestSlowSidecar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, agentOf("a"))
		s := p.open(t, "a")
		s.ack(s.sync()...)
		for i := range 1000 {
			g := allow("big", "crm/"+strings.Repeat("x", 200)+fmt.Sprint(i), "a")
			for range 99 {
				g.Targets = append(g.Targets, g.Targets[0])
			}
			p.put(g)
		}
		newest := p.put(allow("last", "crm/read", "a"))
		sets := 0
		for s.has[grant.GrantName("default", "last")] != fmt.Sprint(newest) {
			s.ack(s.sync()...)
			sets++
		}
		if sets > maxUnanswered+10 {
			t.Errorf("%d sets for 1001 changes", sets)
		}
		s.renewCode(codes.OK)
	})
}

// An idle stream is one goroutine.
func TestIdleStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		for range 10 {
			s := p.open(t, "a")
			s.ack(s.sync()...)
		}
		synctest.Wait()
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		mine := 0
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(stack, "xds.(*stream)") {
				mine++
			}
		}
		if mine != 10 {
			t.Errorf("%d goroutines for 10 idle streams", mine)
		}
	})
}

// A sidecar that opens another stream has given up the first; an instance
// belongs to the key that came with it first.
func TestInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		one, two := p.dial("a", "a-1", "k"), p.dial("a", "a-1", "k")
		s := &sidecar{t: t, conn: one, has: make(map[string]string)}
		const instance = "00000000000000000000000000abcdef"
		s.connect(instance)
		s.ack(s.sync()...)
		s.renewCode(codes.OK)

		again := &sidecar{t: t, conn: two, has: make(map[string]string)}
		again.connect(instance)
		s.ended(codes.Canceled)
		s.renewCode(codes.NotFound)
		again.ack(again.sync()...)
		again.renewCode(codes.OK)

		thief := &sidecar{t: t, conn: p.dial("a", "a-1", "another"), has: make(map[string]string)}
		thief.connect(instance)
		thief.ended(codes.PermissionDenied)
		again.renewCode(codes.OK)

		vague := &sidecar{t: t, conn: one, has: make(map[string]string)}
		vague.connect("me")
		vague.ended(codes.InvalidArgument)
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{MaxStreamsPerAgent: 2, MaxStreams: 3}, crm()...)
		refused := func(agent string) {
			s := &sidecar{t: t, conn: p.dial(agent, agent+"-1", "k")}
			s.dial()
			s.ended(codes.ResourceExhausted)
		}
		p.open(t, "a")
		p.open(t, "a")
		refused("a")
		p.open(t, "b")
		refused("b")
	})
}

// A stream that asks for nothing, or for a part only, does not stay.
func TestHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := &sidecar{t: t, conn: p.dial("a", "a-1", "k"), has: make(map[string]string)}
		s.dial()
		start := time.Now()
		s.ask("00000000000000000000000000abcdef", typeURLs[:3]...)
		s.ask("00000000000000000000000000abcdef", "type.googleapis.com/reeve.grant.v9.Future")
		s.ended(codes.Canceled)
		if took := time.Since(start); took != openWithin {
			t.Errorf("ended after %s, want %s", took, openWithin)
		}
	})
}

// P8: a control plane that ends lets go of its streams, and its sidecars' rest
// of freshness is not forgotten before.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		p.server.Close()
		s.ended(codes.Canceled)
		late := &sidecar{t: t, conn: s.conn}
		late.dial()
		late.ended(codes.Unavailable)
	})
}

// A connection ends before the SVID that it was made with: whoever has none that
// is newer is not served any longer.
func TestConnectionsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		start := time.Now()
		s.ended(codes.Unavailable)
		if took := time.Since(start); took < maxAge*9/10 || took > maxAge*11/10+maxAgeGrace {
			t.Errorf("ended after %s, want about %s", took, maxAge)
		}
	})
}
