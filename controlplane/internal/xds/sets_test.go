package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

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
