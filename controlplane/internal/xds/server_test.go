package xds

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

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
