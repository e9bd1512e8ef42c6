package replicas

import (
	"testing"
	"testing/synctest"
	"time"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// Each sidecar is counted once, however many control planes know it: as applied if
// it acknowledged, to whom it was connected then, and as cut off if it was waited
// out.
func TestCounts(t *testing.T) {
	type counts struct{ applied, cutOff int32 }
	for name, c := range map[string]struct {
		// play has the one sidecar, which holds all at a, do something about the
		// change that is made, before or during the wait at z.
		play   func(w *world, s *sidecar, a, b *node)
		change string
		want   counts
	}{
		"moved before": {func(_ *world, s *sidecar, _, b *node) {
			s.leave(true)
			s.connect(b)
			s.receive(true)
		}, "x", counts{applied: 1}},
		"moved before, unnoticed": {func(_ *world, s *sidecar, _, b *node) {
			s.leave(false)
			s.connect(b)
			s.receive(true)
		}, "x", counts{applied: 1}},
		"moved before, of another's change": {func(_ *world, s *sidecar, _, b *node) {
			s.leave(true)
			s.connect(b)
			s.receive(true)
		}, "y", counts{applied: 1}},
		"acknowledged, then moved": {func(_ *world, s *sidecar, _, b *node) {
			s.receive(true)
			s.leave(true)
			s.connect(b)
			s.receive(true)
		}, "x", counts{applied: 1}},
		"acknowledged, then moved unnoticed": {func(_ *world, s *sidecar, _, b *node) {
			s.receive(true)
			s.leave(false)
			s.connect(b)
			s.receive(true)
		}, "x", counts{applied: 1}},
		"acknowledged, then left, as a suspended agent's": {func(_ *world, s *sidecar, _, _ *node) {
			s.receive(true)
			s.leave(true)
		}, "x", counts{applied: 1}},
		"left, with nothing to acknowledge": {func(_ *world, s *sidecar, _, _ *node) { s.leave(true) }, "y", counts{}},
		"left":                              {func(_ *world, s *sidecar, _, _ *node) { s.leave(true) }, "x", counts{cutOff: 1}},
		"moves during the wait": {func(w *world, s *sidecar, _, b *node) {
			w.all.Go(func() {
				time.Sleep(time.Second)
				s.leave(true)
				time.Sleep(time.Second)
				s.connect(b)
				s.receive(true)
			})
		}, "x", counts{applied: 1}},
		"moves during the wait, unnoticed": {func(w *world, s *sidecar, _, b *node) {
			w.all.Go(func() {
				time.Sleep(time.Second)
				s.leave(false)
				s.connect(b)
				s.receive(true)
			})
		}, "x", counts{applied: 1}},
		"moves during the wait, and does not acknowledge": {func(w *world, s *sidecar, _, b *node) {
			w.all.Go(func() {
				time.Sleep(time.Second)
				s.leave(true)
				s.connect(b)
			})
		}, "x", counts{cutOff: 1}},
		"stays at one of a version before": {func(w *world, s *sidecar, a, _ *node) {
			w.set(func() { a.before = true })
			s.receive(true)
		}, "x", counts{applied: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, a, b, z := three(t)
				s := w.sidecar("x", "1")
				s.hold(a)
				other := w.sidecar("y", "1") // is always there, and always acknowledges
				other.hold(z)
				r := w.change(c.change, 0)
				time.Sleep(2 * tick)
				other.receive(true)
				c.play(w, s, a, b)
				var last *adminv1.AwaitRevisionResponse
				w.await(z, r, func(p *adminv1.AwaitRevisionResponse) error {
					last = p
					if n := p.GetApplied() + p.GetPending() + p.GetRefused() + p.GetCutOff(); n > 2 {
						t.Errorf("%d are counted of two: %v", n, p)
					}
					return nil
				})
				if got := (counts{last.GetApplied() - 1, last.GetCutOff()}); got != c.want || last.GetPending()+last.GetRefused() != 0 {
					t.Errorf("counted %+v, want %+v: %v", got, c.want, last)
				}
			})
		})
	}
}
