package replicas

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

const (
	// retryFirst and retryAtMost are how long it takes until a lost connection of
	// a wait is tried again.
	retryFirst  = 20 * time.Millisecond
	retryAtMost = time.Second
	// maxHolders is how many sidecars a question names.
	maxHolders = 1000
)

// A script is all that a member was told and asked, so that it can be told and
// asked again over another connection. Safe for concurrent use.
type script struct {
	mu    sync.Mutex
	lines []rollout.Question
	more  chan struct{} // closed when there is another line
}

func newScript() *script { return &script{more: make(chan struct{})} }

// say adds what a question says, in lines of maxHolders.
func (s *script) say(q rollout.Question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.lines)
	for len(q.Elsewhere)+len(q.Held) > 0 {
		n, m := min(len(q.Elsewhere), maxHolders), min(len(q.Held), maxHolders)
		s.lines = append(s.lines, rollout.Question{Elsewhere: q.Elsewhere[:n], Held: q.Held[:m]})
		q = rollout.Question{Elsewhere: q.Elsewhere[n:], Held: q.Held[m:]}
	}
	if len(s.lines) > before {
		close(s.more)
		s.more = make(chan struct{})
	}
}

// line returns the line of a number, or a channel that is closed when there is
// one.
func (s *script) line(n int) (q rollout.Question, ok bool, more <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < len(s.lines) {
		return s.lines[n], true, nil
	}
	return rollout.Question{}, false, s.more
}

// read sends all lines, those to come too, until ctx ends.
func (s *script) read(ctx context.Context, to chan<- rollout.Question) {
	for n := 0; ; {
		q, ok, more := s.line(n)
		if !ok {
			select {
			case <-more:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case to <- q:
			n++
		case <-ctx.Done():
			return
		}
	}
}

type awaiter func(ctx context.Context, revision int64, questions <-chan rollout.Question, tell func(rollout.Answer) error) error

// serve passes what a member is told and asked on to it, and what it says to the
// wait, until ctx ends or await fails.
func (w *wait) serve(ctx context.Context, m *member, await awaiter) error {
	ctx, cancel := context.WithCancel(ctx)
	questions := make(chan rollout.Question)
	var reading sync.WaitGroup
	reading.Go(func() { m.script.read(ctx, questions) })
	defer reading.Wait()
	defer cancel()
	return await(ctx, w.revision, questions, func(a rollout.Answer) error {
		w.post(ctx, event{from: m, answer: a})
		return ctx.Err()
	})
}

// follow serves a member that is another process, anew whenever the connection is
// lost, until ctx ends or it turns out to be gone.
func (w *wait) follow(ctx context.Context, m *member, peer Peer) {
	incarnation := m.presence.GetIncarnation()
	for retry := retryFirst; ; retry = min(2*retry, retryAtMost) {
		err := w.serve(ctx, m, func(ctx context.Context, revision int64, questions <-chan rollout.Question, tell func(rollout.Answer) error) error {
			return peer.AwaitHere(ctx, incarnation, revision, questions, func(a rollout.Answer) error {
				w.replicas.heard(incarnation)
				retry = retryFirst
				return tell(a)
			})
		})
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrIncarnation) {
			w.replicas.replaced(ctx, incarnation)
			return
		}
		w.replicas.cfg.Log.DebugContext(ctx, "control plane not heard",
			slog.String("replica", m.name), slog.Any("error", err))
		if pause(ctx, retry) != nil {
			return
		}
		var err2 error
		if peer, err2 = w.replicas.peer(m.presence.GetAddress()); err2 != nil {
			return
		}
	}
}

// A member is an incarnation that may have let sidecars act. The wait's goroutine
// uses it, but for its script.
type member struct {
	presence *storev1.Presence // nil for this process
	name     string
	script   *script
	// deadline is when whatever it granted before the revision has run out.
	deadline time.Time
	// counted says that its sidecars are counted, where it says only how many there
	// are: one process may be several incarnations. stands says that it says how
	// each of them stands.
	counted, stands bool
	heard           time.Time // when it last said something
	told            *adminv1.AwaitRevisionResponse
	settled         bool
}

func (w *wait) add(m *member) *member {
	m.script = newScript()
	// What is lacked already may be known to it.
	var all []rollout.Holder
	for h := range w.lacked {
		all = append(all, h)
	}
	m.script.say(rollout.Question{Elsewhere: all})
	w.members = append(w.members, m)
	return m
}

// enter makes members of all who may have let sidecars act.
func (w *wait) enter(ctx context.Context, head store.Head, present []*storev1.Presence) {
	r := w.replicas
	longest := max(r.cfg.Bound, head.LongestBound)
	for _, p := range present {
		longest = max(longest, p.GetBound().AsDuration())
	}
	w.deadline = w.start.Add(rollout.Outlast(longest))
	w.known = true
	w.local.deadline = w.deadline
	serving := make(map[string]struct{}) // addresses
	for _, p := range present {
		if p.GetEndTime() == nil {
			serving[p.GetAddress()] = struct{}{}
		}
	}
	now := time.Now()
	for _, p := range present {
		if r.isOwn(p.GetIncarnation()) {
			continue // the rollout here knows all that this process ever granted
		}
		m := &member{presence: p, name: p.GetReplica(), deadline: w.deadline, counted: p.GetEndTime() == nil}
		if p.GetEndTime() != nil {
			if until := r.runOut(p); until.Before(m.deadline) {
				m.deadline = until
			}
			if !now.Before(m.deadline) {
				continue
			}
			if _, ok := serving[p.GetAddress()]; !ok {
				m.heard = now // nobody is there: nothing will be said
				w.add(m)
				continue
			}
		}
		w.add(m)
		peer, err := r.peer(p.GetAddress())
		if err != nil {
			m.heard = now
			continue
		}
		w.running.Go(func() { w.follow(ctx, m, peer) })
	}
}

// runOut returns when all has run out that was granted under a presence that has
// ended and was noted.
func (r *Replicas) runOut(p *storev1.Presence) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended[p.GetIncarnation()].runOut
}
