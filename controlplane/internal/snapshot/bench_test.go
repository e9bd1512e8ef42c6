package snapshot

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// A change costs what it affects: an agent's, not the fleet's.
func BenchmarkOneAgentsChange(b *testing.B) {
	for _, agents := range []int{100, 10_000} {
		b.Run(fmt.Sprint(agents), func(b *testing.B) {
			w := newWorld()
			var all []proto.Message
			for i := range agents {
				id := fmt.Sprintf("a%d", i)
				all = append(all, &grantv1.Agent{Name: grant.AgentName("x", id), Uid: "1", State: grantv1.Agent_ACTIVE}, grantOf(id, id))
			}
			if err := w.change(all); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := w.change([]proto.Message{grantOf("a7", "a7")}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A grant for all of the fleet is one entry in every set.
func BenchmarkFleetsChange(b *testing.B) {
	w := newWorld()
	var all []proto.Message
	for i := range 5000 {
		id := fmt.Sprintf("a%d", i)
		all = append(all, &grantv1.Agent{
			Name: grant.AgentName("x", id), Uid: "1", State: grantv1.Agent_ACTIVE, Labels: map[string]string{"fleet": "yes"},
		})
		for k := range 20 {
			all = append(all, grantOf(fmt.Sprintf("%s-%d", id, k), id))
		}
	}
	if err := w.change(all); err != nil {
		b.Fatal(err)
	}
	ban := grantOf("ban")
	ban.Effect, ban.Subjects.Selector = grantv1.Grant_FORBID, &grantv1.LabelSelector{MatchLabels: map[string]string{"fleet": "yes"}}
	for b.Loop() {
		if err := w.change([]proto.Message{ban}); err != nil {
			b.Fatal(err)
		}
	}
}

// To halt a fleet is one entry in every set.
func BenchmarkHalt(b *testing.B) {
	for _, agents := range []int{100, 10_000} {
		b.Run(fmt.Sprint(agents), func(b *testing.B) {
			w := newWorld()
			var all []proto.Message
			for i := range agents {
				id := fmt.Sprintf("a%d", i)
				all = append(all, &grantv1.Agent{Name: grant.AgentName("x", id), Uid: "1", State: grantv1.Agent_ACTIVE})
				for k := range 20 {
					all = append(all, grantOf(fmt.Sprintf("%s-%d", id, k), id))
				}
			}
			if err := w.change(all); err != nil {
				b.Fatal(err)
			}
			halt := &grantv1.FleetState{Name: "fleet", State: grantv1.FleetState_HALTED}
			for b.Loop() {
				if err := w.change([]proto.Message{halt}); err != nil {
					b.Fatal(err)
				}
				if err := w.change(nil, "fleet"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
