package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// gatherFrom is how many messages must be on their way before they are stored
	// together. JetStream writes such a group twice and syncs both, which costs as
	// much as some fifteen messages by themselves (go test
	// -bench Ingest ./controlplane/internal/audit).
	gatherFrom = 24
	// gatherMost and gatherBytes bound a group; JetStream takes 1,000 messages.
	gatherMost  = 500
	gatherBytes = 16 << 20
)

// gatherer stores messages together that are on their way at the same time, on a
// server that would otherwise sync each one by itself.
type gatherer struct {
	log *Log
	// under way are the messages that callers wait for.
	underWay atomic.Int64
	waiting  chan *parcel
	ended    chan struct{} // closed when nothing is stored any more
}

// parcel is a message that is to be stored with others.
type parcel struct {
	subject string
	data    []byte
	after   uint64
	stored  chan outcome // holds one
}

// outcome is what became of a parcel. If alone is set nothing was stored, and it
// must be tried by itself: another one of the group was refused.
type outcome struct {
	position uint64
	err      error
	alone    bool
}

func newGatherer(l *Log) *gatherer {
	return &gatherer{log: l, waiting: make(chan *parcel, gatherMost), ended: make(chan struct{})}
}

// put stores a message with others as Put does; ok is false if it should be, and
// was not yet, stored alone.
func (g *gatherer) put(ctx context.Context, s *stream, subject string, data []byte, after uint64) (position uint64, ok bool, err error) {
	if !s.gathers {
		return 0, false, nil
	}
	// The count holds until the message is on its way in the one way or the
	// other; those alone are few then.
	defer g.underWay.Add(-1)
	if g.underWay.Add(1) < gatherFrom {
		position, err := g.log.publish(ctx, subject, data, jetstream.WithExpectLastSequencePerSubject(after))
		return position, true, err
	}
	p := &parcel{subject: subject, data: data, after: after, stored: make(chan outcome, 1)}
	select {
	case g.waiting <- p:
	case <-ctx.Done():
		return 0, true, fmt.Errorf("%w: %w", ErrOffline, ctx.Err())
	}
	select {
	case o := <-p.stored:
		return o.position, !o.alone, o.err
	case <-g.ended:
		return 0, true, fmt.Errorf("%w: closed", ErrOffline)
	case <-ctx.Done():
		return 0, true, fmt.Errorf("%w: %w", ErrOffline, ctx.Err())
	}
}

// run stores what waits, until ctx ends.
func (g *gatherer) run(ctx context.Context) {
	defer close(g.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-g.waiting:
			g.store(ctx, g.collect(p))
		}
	}
}

// collect returns p and what waits behind it.
func (g *gatherer) collect(p *parcel) []*parcel {
	group, size := []*parcel{p}, len(p.data)
	for len(group) < gatherMost && size < gatherBytes {
		select {
		case p := <-g.waiting:
			group = append(group, p)
			size += len(p.data)
		default:
			return group
		}
	}
	return group
}

// store stores a group and tells its parcels what became of them.
func (g *gatherer) store(ctx context.Context, group []*parcel) {
	last, err := g.commit(ctx, group)
	alone := (*jetstream.APIError)(nil)
	for i, p := range group {
		switch {
		case err == nil:
			p.stored <- outcome{position: last - uint64(len(group)-1-i)} //nolint:gosec // i is below the length.
		case errors.As(err, &alone):
			p.stored <- outcome{alone: true}
		default:
			p.stored <- outcome{err: g.log.failed(err)}
		}
	}
}

// commit stores a group, all of it or nothing, and returns the position of its
// last message. An APIError says that nothing was stored; any other error leaves
// that open.
func (g *gatherer) commit(ctx context.Context, group []*parcel) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	id := uuid.NewString()
	for i, p := range group {
		m := &nats.Msg{Subject: p.subject, Data: p.data, Header: nats.Header{
			"Nats-Batch-Id":                     {id},
			"Nats-Batch-Sequence":               {strconv.Itoa(i + 1)},
			jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(p.after, 10)},
		}}
		if i < len(group)-1 {
			if err := g.log.conn.PublishMsg(m); err != nil {
				return 0, err
			}
			continue
		}
		m.Header["Nats-Batch-Commit"] = []string{"1"}
		reply, err := g.log.conn.RequestMsgWithContext(ctx, m)
		if err != nil {
			return 0, err
		}
		return committed(reply.Data, len(group))
	}
	return 0, nil
}

// committed reads the answer to a group of n.
func committed(answer []byte, n int) (uint64, error) {
	var ack struct {
		Error    *jetstream.APIError `json:"error"`
		Sequence uint64              `json:"seq"`
		Count    int                 `json:"count"`
	}
	if err := json.Unmarshal(answer, &ack); err != nil {
		return 0, fmt.Errorf("read acknowledgement: %w", err)
	}
	if ack.Error != nil {
		return 0, ack.Error
	}
	if ack.Count != n || ack.Sequence < uint64(n) { //nolint:gosec // n is a length.
		return 0, fmt.Errorf("%d of %d messages acknowledged", ack.Count, n)
	}
	return ack.Sequence, nil
}
