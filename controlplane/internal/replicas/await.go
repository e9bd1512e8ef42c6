package replicas

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

const (
	// progressEvery is how often a waiter is told of progress, and patient how
	// long it is not told anything when nobody has said anything yet.
	progressEvery = 250 * time.Millisecond
	patient       = 50 * time.Millisecond
	// silentAfter is how long a control plane that tells of its progress every
	// progressEvery may be silent before it is said not to answer.
	silentAfter = time.Second
	// rereadAfter is when a failed read of the presences is tried again.
	rereadAfter = 200 * time.Millisecond
	// maxStragglers is how many of the sidecars waited for are named.
	maxStragglers = 20
)

// Await returns nil when the revision, which the store must have reached, is in
// force: every sidecar that any control plane of the store let act, and that may
// still act, holds everything of its own up to it. Meanwhile it calls progress,
// which may be nil, a few times a second, and with in_force set before it returns
// nil. It fails with the error of progress, or of ctx if that ends first. Nothing
// that it began, here or elsewhere, goes on when it has returned.
func (r *Replicas) Await(ctx context.Context, revision int64, progress func(*adminv1.AwaitRevisionResponse) error) (err error) {
	if progress == nil {
		progress = func(*adminv1.AwaitRevisionResponse) error { return nil }
	}
	w := &wait{
		replicas: r, revision: revision, start: time.Now(), progress: progress,
		events: make(chan event), lacked: make(map[rollout.Holder][]*member), held: make(map[rollout.Holder]int64),
		standings: make(map[uint64]standing),
	}
	defer func() { r.measure(ctx, w, err) }()
	defer w.running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Until the presences are read, any bound is possible.
	w.deadline = w.start.Add(rollout.Outlast(rollout.MaxBound))
	w.local = w.add(&member{name: r.cfg.Name, counted: true})
	w.running.Go(func() { _ = w.serve(ctx, w.local, r.awaitLocal) }) // it fails with ctx only
	w.running.Go(func() { w.readPresences(ctx) })
	return w.run(ctx)
}

func (r *Replicas) awaitLocal(ctx context.Context, revision int64, questions <-chan rollout.Question, tell func(rollout.Answer) error) error {
	return r.cfg.Rollout.AwaitHere(ctx, revision, questions, tell)
}

// A wait is one Await. One goroutine uses it, but for events.
type wait struct {
	replicas *Replicas
	revision int64
	start    time.Time
	progress func(*adminv1.AwaitRevisionResponse) error
	running  sync.WaitGroup
	events   chan event

	// deadline is when the revision is in force whatever anybody says.
	deadline time.Time
	// known says that the presences were read: members are all there are.
	known   bool
	local   *member
	members []*member
	// lacked are the sidecars that a member lacks and another may know of, with
	// those who lack them; held are those of them that hold the revision.
	lacked map[rollout.Holder][]*member
	held   map[rollout.Holder]int64
	// standings are how sidecars stand, each by whoever saw it last.
	standings map[uint64]standing
	// waitedOut says that a bound had to pass.
	waitedOut bool
}

// A standing is how a sidecar stands by the word of a member.
type standing struct {
	rollout.Standing
	from *member
}

// An event is something that a member said, or that the presences were read.
type event struct {
	from   *member
	answer rollout.Answer

	head    store.Head
	present []*storev1.Presence
}

// readPresences reads the presences once, after the revision was committed.
func (w *wait) readPresences(ctx context.Context) {
	for {
		head, present, err := w.replicas.cfg.Store.Presences(ctx)
		if err == nil {
			w.replicas.note(head, present)
			w.post(ctx, event{head: head, present: present})
			return
		}
		w.replicas.cfg.Log.WarnContext(ctx, "presences not read", slog.Any("error", err))
		if pause(ctx, rereadAfter) != nil {
			return
		}
	}
}

func (w *wait) post(ctx context.Context, e event) {
	select {
	case w.events <- e:
	case <-ctx.Done():
	}
}

// run takes in what comes until the revision is in force.
func (w *wait) run(ctx context.Context) error {
	var told time.Time
	for {
		now := time.Now()
		if w.settle(now) {
			return w.progress(w.summary(now))
		}
		if now.Sub(told) >= progressEvery && (w.answered() || now.Sub(w.start) >= patient) {
			told = now
			if err := w.progress(w.summary(now)); err != nil {
				return err
			}
		}
		timer := time.NewTimer(w.next(now, told))
		select {
		case e := <-w.events:
			if e.from == nil {
				w.enter(ctx, e.head, e.present)
			} else {
				w.take(e.from, e.answer)
			}
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// next is how long nothing happens if nobody says anything.
func (w *wait) next(now, told time.Time) time.Duration {
	next := w.deadline.Sub(now)
	for _, m := range w.members {
		if !m.settled && !m.deadline.IsZero() { // zero: the wait's own is all there is
			next = min(next, m.deadline.Sub(now))
		}
	}
	due := told.Add(progressEvery)
	if told.IsZero() {
		due = w.start.Add(patient)
	}
	return max(time.Millisecond, min(next, due.Sub(now)))
}

// answered reports whether everybody has said something.
func (w *wait) answered() bool {
	return w.known && !slices.ContainsFunc(w.members, func(m *member) bool { return m.heard.IsZero() })
}

// settle reports whether the revision is in force, and notes whose bound has
// passed.
func (w *wait) settle(now time.Time) bool {
	if !now.Before(w.deadline) {
		w.waitedOut = true
		return true
	}
	all := w.known
	for _, m := range w.members {
		if !m.settled && !m.deadline.IsZero() && !now.Before(m.deadline) {
			m.settled = true
			w.waitedOut = w.waitedOut || m.deadline.After(w.start)
		}
		all = all && m.settled
	}
	return all
}

// take takes in what a member said.
func (w *wait) take(from *member, a rollout.Answer) {
	from.heard, from.told = time.Now(), a.Progress
	from.settled = from.settled || a.Progress.GetInForce()
	for _, s := range a.Standings {
		from.stands = true
		last := w.standings[s.Sidecar]
		if s.Ordinal > last.Ordinal || s.Ordinal == last.Ordinal && last.State != rollout.Applied {
			w.standings[s.Sidecar] = standing{s, from}
		}
	}
	var held []rollout.Sighting
	var ask []rollout.Holder
	say := make(map[*member]rollout.Question)
	for _, h := range a.Left {
		lacking := w.lacked[h]
		if slices.Contains(lacking, from) {
			continue // said again over another connection
		}
		if ordinal, ok := w.held[h]; ok {
			held = append(held, rollout.Sighting{Holder: h, Ordinal: ordinal})
		}
		w.lacked[h] = append(lacking, from)
		switch len(lacking) {
		case 0:
			ask = append(ask, h)
		case 1: // everybody was asked but the first who lacked it
			q := say[lacking[0]]
			q.Elsewhere = append(q.Elsewhere, h)
			say[lacking[0]] = q
		}
	}
	from.script.say(rollout.Question{Held: held})
	for _, m := range w.members {
		q := say[m]
		if m != from {
			q.Elsewhere = append(q.Elsewhere, ask...)
		}
		m.script.say(q)
	}
	by := make(map[*member][]rollout.Sighting)
	for _, h := range a.Held {
		lacking, ok := w.lacked[h.Holder]
		if !ok {
			continue // nobody asked
		}
		w.held[h.Holder] = max(w.held[h.Holder], h.Ordinal)
		for _, m := range lacking {
			if m != from {
				by[m] = append(by[m], h)
			}
		}
	}
	for m, all := range by {
		m.script.say(rollout.Question{Held: all})
	}
}
