package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

func sessionOf(agent, id string) *grantv1.Session {
	return &grantv1.Session{
		Name: grant.SessionName("default", agent, id), AgentUid: agent + "-1", Origin: grantv1.Session_ADMIN, User: agent + "s-user",
		ExpireTime: timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
}

// P5: a sidecar is sent the sessions of its own agent, and cannot tell whether
// another has one, nor of an earlier incarnation of its own.
func TestOwnSessionsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		earlier := sessionOf("a", "s-0")
		earlier.AgentUid, earlier.User = "a-0", "earlier-user"
		p := newPlane(t, Config{}, append(crm(), sessionOf("a", "s-1"), sessionOf("b", "s-2"), earlier)...)
		s := p.open(t, "a")
		all := s.sync()
		for _, m := range all {
			for _, word := range []string{"s-2", "bs-user", "s-0", "earlier-user"} {
				if text := fmt.Sprint(m); strings.Contains(text, word) {
					t.Errorf("response speaks of %s: %s", word, text)
				}
			}
		}
		own := grant.SessionName("default", "a", "s-1")
		if s.has[own] != "1" {
			t.Errorf("its own session is not sent: %v", s.has)
		}
		s.ack(all...)
		names := []string{
			grant.SessionName("default", "a", "s-0"), grant.SessionName("default", "b", "nonsense"), grant.SessionName("default", "b", "s-2"),
		}
		s.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[snapshot.Sessions], ResourceNamesSubscribe: names})
		m := s.receive()
		got := slices.Sorted(slices.Values(m.GetRemovedResources()))
		if diff := cmp.Diff(names, got); diff != "" || len(m.GetResources()) > 0 {
			t.Errorf("another's session and nonsense are told apart (-want +got):\n%s", diff)
		}
	})
}

// P2: the end of a session is in force when the sidecar has acknowledged it, and
// not before; it concerns nobody else.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, append(crm(), sessionOf("a", "s-1"))...)
		s, other := p.open(t, "a"), p.open(t, "b")
		s.ack(s.sync()...)
		s.renewCode(codes.OK)
		other.ack(other.sync()...)
		other.renewCode(codes.OK)

		ended := p.remove(grant.SessionName("default", "a", "s-1"))
		done := make(chan time.Duration, 1)
		go func() { done <- p.inForce(t, ended) }()
		all := s.sync()
		time.Sleep(time.Second)
		synctest.Wait()
		select {
		case took := <-done:
			t.Fatalf("in force after %s, unacknowledged", took)
		default:
		}
		s.ack(all...)
		if took := <-done; took != time.Second {
			t.Errorf("in force after %s, want at the acknowledgement, after 1s", took)
		}
		if got := all[0].GetRemovedResources(); !slices.Equal(got, []string{grant.SessionName("default", "a", "s-1")}) ||
			all[0].GetTypeUrl() != "type.googleapis.com/reeve.grant.v1.Session" {
			t.Errorf("told of %v of type %s", got, all[0].GetTypeUrl())
		}
	})
}
