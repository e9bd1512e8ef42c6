package pep_test

import (
	"testing"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// BenchmarkCall is what a call costs here, its record left out, with limits and
// without.
func BenchmarkCall(b *testing.B) {
	for _, name := range []string{"plain", "counted", "in a counted session"} {
		b.Run(name, func(b *testing.B) {
			g := newRig(b)
			g.count(b, nil)
			c := refund
			switch name {
			case "counted":
				g.apply(b, []string{grantName}, limited("many", upTo(1_000_000_000)))
			case "in a counted session":
				g.apply(b, nil, session(mine, upTo(1_000_000_000)))
				c = inSession()
			}
			b.ReportAllocs()
			for b.Loop() {
				p := g.Authorize(b.Context(), c)
				if !p.Forward(b.Context(), begun) {
					b.Fatal(p.Decision)
				}
				p.End(b.Context(), decisionv1.Outcome_OK)
			}
		})
	}
}
