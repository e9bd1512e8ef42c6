package audit

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

const (
	// scanLimit is how many records are looked at for one page. A page may be
	// short, or empty, and not the last.
	scanLimit = 200_000
	// pageBytes is where a page ends before it is full, well below what a gRPC
	// message may have.
	pageBytes = 2 << 20
	// outcomeReads is how many reads are spent on the outcomes of one page that
	// stand in the pages before it.
	outcomeReads = 64
	// clockSkew is how far the clock of a sidecar may be ahead of ours without
	// its records being missed by a start time.
	clockSkew = 10 * time.Minute
)

// list returns at most size decisions that match, newest first, from a place
// on, and the place behind them; done says that there are no more.
func list(ctx context.Context, l *journal.Log, f filter, from place, size int) (page []*adminv1.LoggedDecision, next place, done bool, err error) {
	newest, err := l.End(ctx)
	if err != nil {
		return nil, place{}, false, err
	}
	end := newest
	if from != (place{}) {
		end = min(end, from.position) // a token's word: it may be of no log
	}
	w := backward{log: l, subject: f.subject, before: end + 1}
	p := pageOf{filter: f, from: from, size: size, outcomes: make(map[string]*decisionv1.Outcome)}
	for scanned := 0; ; {
		s, ok, err := w.next(ctx)
		if err != nil {
			return nil, place{}, false, err
		}
		if !ok || (!f.start.IsZero() && s.Time.Before(f.start.Add(-clockSkew))) {
			done = true
			break
		}
		n, full, err := p.take(s)
		if err != nil {
			return nil, place{}, false, err
		}
		if scanned += n; full || scanned >= scanLimit {
			break
		}
	}
	if from != (place{}) {
		if err := outcomesBehind(ctx, l, &p, newest); err != nil {
			return nil, place{}, false, err
		}
	}
	return p.decisions, p.next, done, nil
}

// pageOf is a page in the making, filled from the newest record to the oldest.
type pageOf struct {
	filter    filter
	from      place
	size      int
	next      place
	decisions []*adminv1.LoggedDecision
	bytes     int // of decisions, encoded
	// outcomes are those seen whose decision is still to come.
	outcomes map[string]*decisionv1.Outcome
}

// take adds what a batch has for the page, and returns how many records it
// looked at and whether the page is full.
func (p *pageOf) take(s journal.Message) (records int, full bool, err error) {
	b, err := decodeBatch(s)
	if err != nil {
		return 0, false, err
	}
	for i := len(b.GetRecords()) - 1; i >= 0; i-- {
		r := &decisionv1.Record{}
		if err := proto.Unmarshal(b.GetRecords()[i], r); err != nil {
			return 0, false, fmt.Errorf("decode record %d of batch %d: %w", i, s.Position, err)
		}
		if o := r.GetOutcome(); o != nil {
			p.outcomes[o.GetDecision()] = o
			continue
		}
		id := r.GetDecision().GetId()
		outcome := p.outcomes[id]
		delete(p.outcomes, id)
		seen := s.Position == p.from.position && uint64(i) >= p.from.index
		if seen || !p.filter.matches(r) {
			continue
		}
		p.decisions = append(p.decisions, &adminv1.LoggedDecision{Record: r, Outcome: outcome})
		p.bytes += len(b.GetRecords()[i]) + proto.Size(outcome)
		if len(p.decisions) == p.size || p.bytes > pageBytes {
			p.next = place{position: s.Position, index: uint64(i)}
			return len(b.GetRecords()) - i, true, nil
		}
	}
	p.next = place{position: s.Position}
	return len(b.GetRecords()), false, nil
}

// outcomesBehind finds, for the calls on a page whose end is not on it, the
// outcomes among what was stored behind the place where the page begins.
func outcomesBehind(ctx context.Context, l *journal.Log, p *pageOf, end uint64) error {
	open := make(map[string]map[string]*adminv1.LoggedDecision) // by subject, by id
	for _, d := range p.decisions {
		if d.GetOutcome() != nil || d.GetRecord().GetDecision().GetVerdict() != decisionv1.Decision_ALLOW {
			continue
		}
		namespace, agent, err := splitAgent(d.GetRecord().GetAgent())
		if err != nil {
			return err
		}
		subject := source{namespace: namespace, agent: agent, instance: d.GetRecord().GetInstance()}.subject()
		if open[subject] == nil {
			open[subject] = make(map[string]*adminv1.LoggedDecision)
		}
		open[subject][d.GetRecord().GetDecision().GetId()] = d
	}
	reads := 0
	for subject, waiting := range open {
		from, more := p.from.position+1, true
		for ; more && len(waiting) > 0 && reads < outcomeReads; reads++ {
			var batches []journal.Message
			var err error
			if batches, more, err = l.Read(ctx, subject, from, end+1, journal.ReadLimit); err != nil {
				return err
			}
			for _, s := range batches {
				from = s.Position + 1
				if err := settle(s, waiting); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// settle gives decisions the outcomes in a batch, and takes them off waiting.
func settle(s journal.Message, waiting map[string]*adminv1.LoggedDecision) error {
	b, err := decodeBatch(s)
	if err != nil {
		return err
	}
	r := &decisionv1.Record{}
	for i, encoded := range b.GetRecords() {
		proto.Reset(r)
		if err := proto.Unmarshal(encoded, r); err != nil {
			return fmt.Errorf("decode record %d of batch %d: %w", i, s.Position, err)
		}
		id := r.GetOutcome().GetDecision()
		if d := waiting[id]; d != nil {
			d.Outcome = r.GetOutcome()
			delete(waiting, id)
		}
	}
	return nil
}

// maxWindow bounds how many positions are searched at once.
const maxWindow = 1 << 20

// backward walks the batches of a subject from the newest to the oldest. The
// log can only be read forward, so it reads a window of positions at a time,
// wide where matches are rare and narrow where they are not.
type backward struct {
	log     *journal.Log
	subject string
	before  uint64 // positions from here on have been seen
	window  uint64
	held    []journal.Message // to be returned, last first
}

// next returns the next older batch; false if there is none.
func (w *backward) next(ctx context.Context) (journal.Message, bool, error) {
	w.window = max(w.window, journal.ReadLimit)
	for len(w.held) == 0 {
		if w.before <= 1 {
			return journal.Message{}, false, nil
		}
		from := w.before - min(w.window, w.before-1)
		found, more, err := w.log.Read(ctx, w.subject, from, w.before, journal.ReadLimit)
		if err != nil {
			return journal.Message{}, false, err
		}
		whole := !more || found[len(found)-1].Position >= w.before-1
		for len(found) > 0 && found[len(found)-1].Position >= w.before {
			found = found[:len(found)-1]
			whole = true
		}
		if !whole {
			w.window = max(w.window/2, 1)
			continue
		}
		w.held, w.before = found, from
		if len(found) < journal.ReadLimit/4 {
			w.window = min(w.window*4, maxWindow)
		}
	}
	s := w.held[len(w.held)-1]
	w.held = w.held[:len(w.held)-1]
	return s, true, nil
}
