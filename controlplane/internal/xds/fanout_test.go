package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
)

// Changes that come faster than a fleet can be told of them are merged, one
// agent's change does not wait for the fleet's, and everybody has a turn after
// the last change that concerns them.
func TestFanout(t *testing.T) {
	const agents, changes = 500, 10
	var fleet []string
	for i := range agents {
		fleet = append(fleet, fmt.Sprint(i))
	}
	var woken []string
	begun, proceed := make(chan struct{}), make(chan struct{})
	f := newFanout(func(agent string) {
		if woken = append(woken, agent); len(woken) == 1 {
			close(begun)
			<-proceed
		}
	})
	f.add(fleet)
	<-begun // the first one is being told
	for range changes - 1 {
		f.add(fleet)
	}
	f.add([]string{"417"})
	close(proceed)
	f.runs.Wait()
	if n := len(woken); n != agents+2 {
		t.Errorf("%d turns for %d changes of %d agents, want one each, and one more for the first and for the one", n, changes, agents)
	}
	if woken[1] != "417" {
		t.Errorf("the one agent's change waited for %d others", slices.Index(woken, "417")-1)
	}
	if slices.Index(woken[1:], woken[0]) < 0 {
		t.Error("the first agent was not woken for the changes after its turn")
	}
	f.close()
	f.add(fleet)
	if f.running {
		t.Error("it runs after it was closed")
	}
}

// P2: changes for a few that never end do not keep a revocation from the fleet.
func TestFanoutIsFair(t *testing.T) {
	var fleet []string
	for i := range 10 * fewAgents {
		fleet = append(fleet, fmt.Sprint(i))
	}
	left := len(fleet)
	var turns int
	var f *fanout
	f = newFanout(func(agent string) {
		if turns++; agent != "busy" {
			left--
		}
		if left > 0 && turns < 100*len(fleet) {
			f.add([]string{"busy"})
		}
	})
	f.add(fleet)
	f.runs.Wait()
	if most := manyEvery*len(fleet) + 1; turns > most {
		t.Errorf("the fleet was told after %d turns, want %d at the most", turns, most)
	}
}

// What says the same to many is encoded once, and nothing else is taken for it.
func TestSharing(t *testing.T) {
	s := newSharing()
	entry := func(name string) *snapshot.Entry {
		return &snapshot.Entry{Type: snapshot.Grants, Name: name, Revision: 5, Wire: []byte(name)}
	}
	a, b := entry("a"), entry("b")
	of := func(revision int64, removed string, entries ...*snapshot.Entry) frame {
		f := frame{t: snapshot.Grants, revision: revision, nonce: nonceOf(normalLane, revision, 1, 1), entries: entries}
		if removed != "" {
			f.removed = []string{removed}
		}
		return f
	}
	first := s.encode(of(5, "", a))
	if again := s.encode(of(5, "", a)); &again[0] != &first[0] {
		t.Error("encoded again for the second stream")
	}
	for _, f := range []frame{of(5, "", b), of(5, "", a, b), of(5, "x", a), of(6, "", a), of(5, "", a)} {
		got, want := s.encode(f), f.encode()
		if string(join(got)) != string(want.Materialize()) {
			t.Errorf("%s: encoded as something else", f.nonce)
		}
	}
	// P5: what one sidecar asked for by name is told to no other, whatever the name.
	for _, removed := range [][]string{nil, {""}, {"", ""}} {
		f := of(6, "", b)
		f.removed = removed
		if got, want := s.encode(f), f.encode(); string(join(got)) != string(want.Materialize()) {
			t.Errorf("with %q removed: encoded as something else", removed)
		}
	}
	s.encode(of(7, "", a))
	if s.revision != 7 || len(s.kept) != 1 {
		t.Errorf("%d frames are kept of revision %d, want only the newest one's", len(s.kept), s.revision)
	}
	for i := range 10 * maxShared {
		s.encode(of(7, fmt.Sprint(i)))
	}
	if n := len(s.kept); n > maxShared {
		t.Errorf("%d frames are kept", n)
	}
	s.encode(of(8, strings.Repeat("x", maxSharedBytes+1)))
	s.encode(of(8, "y"))
	if n := len(s.kept); n != 1 {
		t.Errorf("%d frames are kept, want the one that is not long", n)
	}
}

func join(e encoded) []byte {
	var all []byte
	for _, b := range e {
		all = append(all, b.ReadOnlyData()...)
	}
	return all
}

// P2: a sidecar that reads nothing, and answers all the same what it can guess it
// was sent, delays nobody else.
func TestNoOneWaitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, agentOf("a"), agentOf("b"))
		deaf, other := p.open(t, "a"), p.open(t, "b")
		deaf.ack(deaf.sync()...)
		other.ack(other.sync()...)
		for i := range 100 {
			g := allow("big", "crm/"+strings.Repeat("x", 200)+fmt.Sprint(i), "a", "b")
			for range 99 {
				g.Targets = append(g.Targets, g.Targets[0])
			}
			revision := p.put(g)
			synctest.Wait()
			deaf.send(&discoveryv3.DeltaDiscoveryRequest{
				TypeUrl: typeURLs[snapshot.Grants], ResponseNonce: nonceOf(normalLane, revision, 1, 1),
			})
			other.ack(other.sync()...)
			if got := other.has[g.GetName()]; got != fmt.Sprint(revision) {
				t.Fatalf("after %d changes, the other sidecar has revision %s and not %d", i+1, got, revision)
			}
		}
	})
}
