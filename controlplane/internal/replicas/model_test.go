package replicas

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
)

var (
	histories = flag.Int("histories", 20, "how many random histories are played")
	seed      = flag.Uint64("seed", 0, "the history to begin with; 0 is a random one")
)

// TestNeverTooEarly plays random histories of control planes that stop, are cut
// off, die and come back, of sidecars that move between them, and of grants with
// bounds of their own. At no moment may a sidecar act on a set that lacks a
// revision which was said to be in force (P2).
func TestNeverTooEarly(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	n := *histories
	if testing.Short() {
		n = 3
	}
	waits := 0
	for i := range uint64(n) {
		seed := first + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { waits += play(t, seed) })
		})
		if t.Failed() {
			t.Fatalf("again with -run TestNeverTooEarly -seed %d -histories 1", seed)
		}
	}
	t.Logf("%d histories from %d on, %d waits", n, first, waits)
}

// bounds are what control planes and grants name. Short ones come often, so that
// histories hold many of them.
var (
	defaults = []time.Duration{time.Second, 3 * time.Second, bound}
	named    = []time.Duration{0, 0, 0, 2 * time.Second, 5 * time.Second, 30 * time.Second, rollout.MaxBound}
)

// play plays one history and returns how many revisions were said to be in force.
func play(t *testing.T, seed uint64) int {
	t.Helper()
	w := newWorld(t, seed)
	random := rand.New(rand.NewPCG(seed, 1)) // used by this goroutine alone
	w.latency = []time.Duration{0, 2 * time.Millisecond, 50 * time.Millisecond}[random.IntN(3)]
	addresses := []string{"a:1", "b:1", "c:1"}
	for _, address := range addresses {
		w.start(address, defaults[random.IntN(len(defaults))])
	}
	var sidecars []*sidecar
	for i := range 4 {
		sidecars = append(sidecars, w.sidecar([]string{"x", "x", "y", "z"}[i], fmt.Sprint(i)))
	}
	h := &history{w: w, random: random, addresses: addresses}
	for range 150 {
		h.step(sidecars[random.IntN(len(sidecars))])
		w.check()
	}
	// Whatever is under way ends, and nothing acts any more.
	h.under.Wait()
	for acting := true; acting; {
		w.check()
		time.Sleep(time.Minute)
		acting = false
		w.set(func() {
			for _, s := range sidecars {
				acting = acting || time.Now().Before(w.freshUntil(s))
			}
		})
	}
	n := 0
	w.set(func() { n = len(w.inForce) })
	return n
}

type history struct {
	w         *world
	random    *rand.Rand
	addresses []string
	under     sync.WaitGroup // waits and renewals
}

// upTo is a random time below d.
func (h *history) upTo(d time.Duration) time.Duration {
	return time.Duration(h.random.Int64N(int64(d)))
}

// node is a random control plane that lives, or nil.
func (h *history) node() (n *node) {
	h.w.set(func() { n = h.w.nodes[h.addresses[h.random.IntN(len(h.addresses))]] })
	return n
}

// passing sets something for a while.
func (h *history) passing(set func(on bool)) {
	h.w.set(func() { set(true) })
	lasting := h.upTo([]time.Duration{time.Second, 20 * time.Second, 2 * time.Minute}[h.random.IntN(3)])
	h.under.Go(func() {
		time.Sleep(lasting)
		h.w.set(func() { set(false) })
	})
}

func (h *history) step(s *sidecar) {
	n := h.node()
	switch what := h.random.IntN(20); {
	case what < 3:
		r := h.w.change(s.agent, named[h.random.IntN(len(named))])
		if n != nil {
			h.await(n, r)
		}
	case what < 5 && n != nil: // it moves, or comes back
		noticed := h.random.IntN(2) == 0
		s.leave(noticed)
		s.connect(n)
		s.receive(h.random.IntN(3) > 0)
		h.renew(s)
	case what < 8:
		s.receive(true)
		h.renew(s)
	case what == 8:
		s.receive(false)
	case what == 9:
		s.leave(h.random.IntN(2) == 0)
	case what == 10 && n != nil:
		h.passing(func(on bool) { n.paused = on })
	case what == 11 && n != nil:
		h.passing(func(on bool) { n.cut = on })
	case what == 12 && n != nil:
		to := h.addresses[h.random.IntN(len(h.addresses))]
		h.passing(func(on bool) { n.apart[to] = on })
	case what == 13 && n != nil:
		h.passing(func(on bool) { n.lagging = on })
	case what == 14 && n != nil && h.random.IntN(2) == 0:
		paused := false
		h.w.set(func() { paused = n.paused || n.cut })
		if !paused && h.random.IntN(2) == 0 {
			_ = n.replicas.End(n.ctx)
		}
		n.kill()
	case what == 15:
		h.startAnew()
	case what == 16:
		time.Sleep(h.upTo(time.Minute))
	case what == 17: // the last moment at which it acts
		var left time.Duration
		h.w.set(func() { left = time.Until(h.w.freshUntil(s)) })
		time.Sleep(max(1, left) - 1)
	default:
		time.Sleep(h.upTo([]time.Duration{20 * time.Millisecond, time.Second, 5 * time.Second}[h.random.IntN(3)]))
	}
}

// await awaits a revision beside the history.
func (h *history) await(n *node, revision int64) {
	h.under.Go(func() {
		if n.replicas.Await(n.ctx, revision, nil) != nil {
			return // it died
		}
		h.w.set(func() { h.w.inForce = append(h.w.inForce, revision) })
		h.w.check()
	})
}

// renew asks for freshness beside the history, and may take long.
func (h *history) renew(s *sidecar) {
	if s.stream == "" {
		return
	}
	var stalls [3]time.Duration
	if h.random.IntN(4) == 0 {
		stalls[h.random.IntN(3)] = h.upTo(20 * time.Second)
	}
	n, stream := s.node, s.stream
	h.under.Go(func() { _ = s.renewAt(n, stream, stalls) })
	if stalls == [3]time.Duration{} {
		time.Sleep(h.w.latency)
	}
}

// startAnew starts one that is dead, if it is not kept from it.
func (h *history) startAnew() {
	for _, address := range h.addresses {
		there := false
		h.w.set(func() { there = h.w.nodes[address] != nil })
		if !there {
			h.w.start(address, defaults[h.random.IntN(len(defaults))])
			return
		}
	}
}
