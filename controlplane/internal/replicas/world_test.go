package replicas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

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

// A sidecar is what one really holds and does.
type sidecar struct {
	agent, instance string
	node            *node
	stream          string
	held            int64
	request         int           // the last
	sent            time.Time     // when the last request that was answered was sent
	bound, longest  time.Duration // what was answered
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

// connect has a sidecar open a stream; it fails if the control plane is behind.
func (s *sidecar) connect(n *node) bool {
	w := n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.paused || n.ctx.Err() != nil || s.held > n.applied {
		return false
	}
	w.streams++
	s.node, s.stream = n, fmt.Sprint("stream ", w.streams)
	var fresh time.Duration
	if !s.sent.IsZero() {
		fresh = max(s.bound, s.longest) - time.Since(s.sent)*500/501 // on its slow clock
	}
	if err := n.rollout.Open(rollout.Stream{
		ID: s.stream, Agent: s.agent, Instance: s.instance, Ordinal: int64(w.streams), FreshFor: fresh,
	}); err != nil {
		w.t.Error(err)
	}
	return true
}

// named returns the longest bound that what a sidecar holds names. The caller holds
// mu.
func (w *world) named(s *sidecar) (longest time.Duration) {
	for _, c := range w.changes {
		if c.agent == s.agent && c.revision <= s.held {
			longest = c.bound
		}
	}
	return longest
}

// receive has a sidecar publish what its control plane has.
func (s *sidecar) receive(acknowledge bool) {
	if s.stream == "" {
		return
	}
	w := s.node.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.node.paused || s.node.ctx.Err() != nil {
		return
	}
	s.held = max(s.held, s.node.applied)
	s.longest = min(s.longest, w.named(s))
	if acknowledge {
		s.node.rollout.Acknowledge(s.stream, s.held)
	}
}

// leave ends a stream, which the control plane may not notice.
func (s *sidecar) leave(noticed bool) {
	if noticed && s.stream != "" {
		s.node.rollout.Close(s.stream)
	}
	s.stream = ""
}

// renew asks for freshness and waits for it.
func (s *sidecar) renew() error {
	if s.stream == "" {
		return errors.New("no stream")
	}
	return s.renewAt(s.node, s.stream, [3]time.Duration{})
}

// renewAt is renew of a stream that the sidecar has or had, and stalls before the
// store is read, before freshness is granted, and on the way back.
func (s *sidecar) renewAt(n *node, stream string, stalls [3]time.Duration) error {
	w, ctx := n.w, n.ctx
	w.mu.Lock()
	s.request++
	request, sent := s.request, time.Now()
	w.mu.Unlock()
	stall := func(d time.Duration) error {
		w.delay()
		time.Sleep(d)
		return w.while(ctx, func() bool { return n.paused })
	}
	if err := stall(stalls[0]); err != nil {
		return err
	}
	head, err := n.replicas.Head(ctx)
	if err != nil {
		return err
	}
	if err := stall(stalls[1]); err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	granted, err := n.rollout.Grant(timed, rollout.Renewal{Stream: stream, Agent: s.agent, Revision: head})
	if err != nil {
		return err
	}
	time.Sleep(stalls[2]) // on its way, whatever becomes of the control plane
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.ctx.Err() == nil && request == s.request {
		s.sent, s.bound, s.longest = sent, granted.Bound, min(granted.Longest, w.named(s))
	}
	return nil
}

// hold has a sidecar connect, hold all and be fresh.
func (s *sidecar) hold(n *node) {
	n.w.t.Helper()
	if !s.connect(n) {
		n.w.t.Fatal("not let in")
	}
	s.receive(true)
	if err := s.renew(); err != nil {
		n.w.t.Fatal(err)
	}
}

// freshUntil is until when a sidecar acts on what it holds, by a clock that may be
// 0.2 % slow. The caller holds mu.
func (w *world) freshUntil(s *sidecar) time.Time {
	if s.sent.IsZero() {
		return s.sent
	}
	lasts := min(max(s.bound, w.named(s)), max(s.bound, s.longest))
	return s.sent.Add(lasts + lasts/500)
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

// storeOf is the store as one control plane reaches it.
type storeOf struct{ n *node }

// do does something with the store at one moment between the call and the return.
func (s storeOf) do(ctx context.Context, what func() error) error {
	w := s.n.w
	w.delay()
	stuck := func() bool { return s.n.paused || s.n.cut }
	timed, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := w.while(timed, stuck); err != nil {
		return cmp.Or(ctx.Err(), fmt.Errorf("%w: cut off", store.ErrOffline))
	}
	w.mu.Lock()
	err := what()
	w.mu.Unlock()
	w.delay()
	if w.while(ctx, stuck) != nil {
		return ctx.Err()
	}
	return err
}

func (s storeOf) PutPresence(ctx context.Context, p *storev1.Presence) error {
	return s.do(ctx, func() error {
		if old := s.n.w.presences[p.GetIncarnation()]; old != nil && !proto.Equal(old, p) {
			return store.ErrExists
		}
		s.n.w.presences[p.GetIncarnation()] = proto.CloneOf(p)
		return nil
	})
}

func (s storeOf) EndPresence(ctx context.Context, incarnation string) error {
	return s.do(ctx, func() error {
		if p := s.n.w.presences[incarnation]; p != nil && p.GetEndTime() == nil {
			p.EndTime = timestamppb.Now()
		}
		return nil
	})
}

func (s storeOf) DeletePresence(ctx context.Context, incarnation string) error {
	return s.do(ctx, func() error {
		if p := s.n.w.presences[incarnation]; p != nil && p.GetEndTime() == nil {
			return store.ErrConflict
		}
		delete(s.n.w.presences, incarnation)
		return nil
	})
}

func (s storeOf) Beat(ctx context.Context, incarnation string) (h store.Head, err error) {
	err = s.do(ctx, func() error {
		h = s.n.w.head
		if p := s.n.w.presences[incarnation]; p == nil || p.GetEndTime() != nil {
			return store.ErrFenced
		}
		return nil
	})
	return h, err
}

func (s storeOf) Presences(ctx context.Context) (h store.Head, all []*storev1.Presence, err error) {
	err = s.do(ctx, func() error {
		h = s.n.w.head
		for _, p := range s.n.w.presences {
			all = append(all, proto.CloneOf(p))
		}
		return nil
	})
	return h, all, err
}

func (s storeOf) NamedBound(ctx context.Context) (h store.Head, longest time.Duration, err error) {
	err = s.do(ctx, func() error {
		h = s.n.w.head
		named := make(map[string]time.Duration)
		for _, c := range s.n.w.changes {
			named[c.agent] = c.bound
		}
		for _, d := range named {
			longest = max(longest, d)
		}
		return nil
	})
	return h, longest, err
}

func (s storeOf) LowerBound(ctx context.Context, since store.Head, to time.Duration) error {
	return s.do(ctx, func() error {
		w := s.n.w
		for _, c := range w.changes {
			if c.revision > since.Revision && c.bound > 0 {
				return store.ErrConflict
			}
		}
		if w.head.LongestBound != since.LongestBound {
			return store.ErrConflict
		}
		w.head.Revision++
		w.head.Sequence++
		w.head.LongestBound = to
		w.tell()
		return nil
	})
}

// A line is the connection of one control plane to another.
type line struct {
	from *node
	to   string
}

// Close implements [Peer].
func (l *line) Close() error { return nil }

var errRefused = errors.New("connection refused")

// pass waits while nothing comes through. It fails if there is nobody, or another
// than n if that is not nil.
func (l *line) pass(ctx context.Context, n *node) (*node, error) {
	w := l.from.w
	w.delay()
	for {
		w.mu.Lock()
		to := w.nodes[l.to]
		stuck := l.from.apart[l.to] || l.from.paused
		if to != nil {
			stuck = stuck || to.paused || to.apart[l.from.address]
		}
		news := w.news
		w.mu.Unlock()
		if !stuck && (to == nil || n != nil && to != n) {
			return nil, errRefused
		}
		if !stuck {
			return to, ctx.Err()
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// AwaitHere implements [Peer].
func (l *line) AwaitHere(ctx context.Context, incarnation string, revision int64, questions <-chan rollout.Question, tell func(rollout.Answer) error) error {
	n, err := l.pass(ctx, nil)
	if err != nil {
		return err
	}
	if !n.replicas.isOwn(incarnation) {
		return ErrIncarnation
	}
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(n.ctx, cancel)()
	there := make(chan rollout.Question)
	var relay sync.WaitGroup
	defer relay.Wait()
	defer cancel()
	relay.Go(func() {
		for {
			select {
			case q := <-questions:
				if _, err := l.pass(ctx, n); err != nil {
					return
				}
				select {
				case there <- q:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return n.rollout.AwaitHere(ctx, revision, there, func(a rollout.Answer) error {
		if _, err := l.pass(ctx, n); err != nil {
			return err
		}
		if n.before {
			a.Standings = nil
		}
		return tell(a)
	})
}

// ListHere implements [Peer].
func (l *line) ListHere(ctx context.Context, incarnation string) (Listing, error) {
	n, err := l.pass(ctx, nil)
	if err != nil {
		return Listing{}, err
	}
	if !n.replicas.isOwn(incarnation) {
		return Listing{}, ErrIncarnation
	}
	told := n.replicas.here()
	if n.before {
		told.StoreAge = 0
	}
	return told, nil
}
