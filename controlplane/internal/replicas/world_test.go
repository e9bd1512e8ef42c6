package replicas

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tick is how long a change takes to a control plane.
const tick = 10 * time.Millisecond

// A world is a store, control planes that share it, and sidecars. Of each sidecar
// it knows what it really holds and until when it really acts.
type world struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // the test's, for what the world runs
	all sync.WaitGroup

	mu        sync.Mutex
	random    *rand.Rand
	latency   time.Duration // the most that anything takes; 0 is nothing
	head      store.Head
	changes   []change
	presences map[string]*storev1.Presence
	nodes     map[string]*node // those that live, by address
	sidecars  []*sidecar
	streams   int
	inForce   []int64       // revisions that were said to be in force
	news      chan struct{} // closed when anything changes
}

// A change sets the one grant of an agent; a bound of 0 names none.
type change struct {
	revision int64
	agent    string
	bound    time.Duration
}

// A node is a control plane.
type node struct {
	w        *world
	address  string
	rollout  *rollout.Rollout
	replicas *Replicas
	ctx      context.Context //nolint:containedctx // its life
	die      context.CancelFunc
	gone     chan struct{} // closed when nothing of it runs
	wake     chan struct{} // sent when there may be something to apply

	// All below are guarded by the world's mu.
	paused, cut, lagging bool            // stopped; without the store; behind
	before               bool            // of a version before, which says less of itself
	apart                map[string]bool // from whom it is cut off, by address
	applied              int64
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &world{
		t: t, ctx: ctx, random: rand.New(rand.NewPCG(seed, 0)),
		head:      store.Head{Revision: 1, StoreID: "store", Sequence: 1},
		presences: make(map[string]*storev1.Presence), nodes: make(map[string]*node), news: make(chan struct{}),
	}
	t.Cleanup(func() {
		cancel()
		w.mu.Lock()
		nodes := make([]*node, 0, len(w.nodes))
		for _, n := range w.nodes {
			n.paused, n.cut = false, false
			nodes = append(nodes, n)
		}
		w.tell()
		w.mu.Unlock()
		for _, n := range nodes {
			n.kill()
		}
		w.all.Wait()
	})
	return w
}

// start starts a control plane at an address where there is none.
func (w *world) start(address string, bound time.Duration) *node {
	w.t.Helper()
	return w.launch(address, bound, func(n *node) { _ = n.replicas.Run(n.ctx) })
}

// launch is start of one that runs what run does.
func (w *world) launch(address string, bound time.Duration, run func(*node)) *node {
	w.t.Helper()
	n := &node{w: w, address: address, gone: make(chan struct{}), wake: make(chan struct{}, 1), apart: make(map[string]bool)}
	n.ctx, n.die = context.WithCancel(w.ctx)
	n.rollout = rollout.New(rollout.Config{Bound: bound, Replica: address})
	var err error
	n.replicas, err = New(Config{
		Store: storeOf{n}, Rollout: n.rollout, Bound: bound, Name: address, Address: address,
		SidecarAddress: "sidecar." + address, EnrollAddress: "enroll." + address,
		Dial: func(to string) (Peer, error) { return &line{from: n, to: to}, nil },
		Log:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := n.replicas.Announce(n.ctx); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.nodes[address] = n
	w.tell()
	w.mu.Unlock()
	n.apply(true)
	w.all.Go(func() {
		defer close(n.gone)
		var running sync.WaitGroup
		running.Go(func() { run(n) })
		for {
			select {
			case <-n.wake:
			case <-n.ctx.Done():
				running.Wait()
				return
			}
			if pause(n.ctx, tick) == nil {
				n.apply(false)
			}
		}
	})
	return n
}

// apply publishes what the store has and this control plane has not.
func (n *node) apply(always bool) {
	n.w.mu.Lock()
	var todo []change
	if always || !n.paused && !n.cut && !n.lagging {
		for _, c := range n.w.changes {
			if c.revision > n.applied {
				todo = append(todo, c)
			}
		}
		n.applied = n.w.head.Revision
	}
	upTo := n.applied
	n.w.mu.Unlock()
	for _, c := range todo {
		n.rollout.Publish(c.revision, []rollout.Touched{{Agent: c.agent, Bound: c.bound}})
	}
	n.rollout.Publish(upTo, nil)
}

// incarnation is what a control plane is announced as.
func (n *node) incarnation() string {
	n.replicas.mu.Lock()
	defer n.replicas.mu.Unlock()
	return n.replicas.incarnation
}

// kill ends a control plane without a word.
func (n *node) kill() {
	n.w.mu.Lock()
	if n.w.nodes[n.address] == n {
		delete(n.w.nodes, n.address)
	}
	n.w.tell()
	n.w.mu.Unlock()
	n.die()
	<-n.gone
}

// delay is what something takes.
func (w *world) delay() {
	w.mu.Lock()
	d := w.latency
	if d > 0 {
		d = time.Duration(w.random.Int64N(int64(d)))
	}
	w.mu.Unlock()
	time.Sleep(d)
}

// while waits as long as stuck, which is called under mu, says so.
func (w *world) while(ctx context.Context, stuck func() bool) error {
	for {
		w.mu.Lock()
		is, news := stuck(), w.news
		w.mu.Unlock()
		if !is {
			return ctx.Err()
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// change makes a change and returns its revision.
func (w *world) change(agent string, bound time.Duration) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head.Revision++
	w.head.Sequence++
	w.head.LongestBound = max(w.head.LongestBound, bound)
	w.changes = append(w.changes, change{w.head.Revision, agent, bound})
	w.tell()
	return w.head.Revision
}

// tell tells the control planes that something is new. The caller holds mu.
func (w *world) tell() {
	close(w.news)
	w.news = make(chan struct{})
	for _, n := range w.nodes {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// set changes something of the world.
func (w *world) set(what func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	what()
	w.tell()
}

// check reports a sidecar that acts without what was said to be in force.
func (w *world) check() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.inForce) == 0 {
		return
	}
	inForce := slices.Max(w.inForce)
	for i, s := range w.sidecars {
		if !time.Now().Before(w.freshUntil(s)) {
			continue
		}
		for _, c := range w.changes {
			if c.agent == s.agent && s.held < c.revision && c.revision <= inForce {
				w.t.Errorf("%d was in force, and sidecar %d acts on %d, without the change of %d", inForce, i, s.held, c.revision)
				return
			}
		}
	}
}

// await returns after how long a revision was in force by what n says.
func (w *world) await(n *node, revision int64, progress func(*adminv1.AwaitRevisionResponse) error) time.Duration {
	w.t.Helper()
	start := time.Now()
	if err := n.replicas.Await(n.ctx, revision, progress); err != nil {
		w.t.Errorf("await: %v", err)
	}
	took := time.Since(start)
	w.mu.Lock()
	w.inForce = append(w.inForce, revision)
	w.mu.Unlock()
	w.check()
	return took
}

const bound = 10 * time.Second

var lasts = rollout.Outlast(bound)

// three starts three control planes and lets them find each other.
func three(t *testing.T) (w *world, a, b, c *node) {
	t.Helper()
	w = newWorld(t, 1)
	a, b, c = w.start("a:1", bound), w.start("b:1", bound), w.start("c:1", bound)
	time.Sleep(2 * lookEvery)
	return w, a, b, c
}
