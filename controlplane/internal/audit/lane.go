package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

const (
	// raceAttempts bounds how often a batch is tried again when another process
	// stores batches of the same source.
	raceAttempts = 6
	// raceRest is how long a batch rests before it is tried again, and then twice
	// as long each time: the other batch may take as long as servers need to agree.
	raceRest = 5 * time.Millisecond
)

// head is the end of what is stored of a source. The zero head is that of a
// source of which nothing is stored.
type head struct {
	sequence int64
	digest   digest
	position uint64 // of the batch with the last record
}

// lane lets batches of one source in, one after the other.
type lane struct {
	log    *journal.Log
	source source
	users  int // guarded by lanes.mu

	// mu guards the fields below.
	mu    sync.Mutex
	head  head
	known bool // whether head is what the log says
}

// lanes are the lanes of the sources that are being heard.
type lanes struct {
	log *journal.Log

	mu sync.Mutex
	of map[source]*lane
}

// enter returns the lane of a source. The caller leaves it.
func (l *lanes) enter(s source) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.of[s]
	if n == nil {
		n = &lane{log: l.log, source: s}
		l.of[s] = n
	}
	n.users++
	return n
}

func (l *lanes) leave(n *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(l.of, n.source)
	}
}

// push stores what is new in b, and returns the sequence up to which records
// are durable and how many were stored. Records that are stored already are
// dropped if they are the same.
func (n *lane) push(ctx context.Context, b *batch) (sequence, added int64, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sure := false
	for attempt := range raceAttempts {
		added, err = n.try(ctx, b)
		switch {
		case errors.Is(err, journal.ErrRaced):
			select {
			case <-ctx.Done():
			case <-time.After(raceRest << attempt):
			}
		case !sure && (errors.Is(err, errGap) || errors.Is(err, errForked)):
			// Another replica may have stored what is missing here, and said so to
			// the sidecar. Nobody is accused by what this one remembers.
			if err := n.log.Confirm(ctx); err != nil {
				return n.head.sequence, 0, err
			}
			sure, n.known = true, false
		default:
			return n.head.sequence, added, err
		}
	}
	return n.head.sequence, added, err
}

func (n *lane) try(ctx context.Context, b *batch) (added int64, err error) {
	if !n.known {
		if err := n.load(ctx); err != nil {
			return 0, err
		}
	}
	switch {
	case len(b.encoded) == 0:
		return 0, nil
	case b.first > n.head.sequence+1:
		return 0, fmt.Errorf("%w: the batch begins at %d, expected %d", errGap, b.first, n.head.sequence+1)
	case b.first <= n.head.sequence:
		if err := n.compare(ctx, b); err != nil {
			return 0, err
		}
	default:
		if before := n.head.digest[:]; !bytes.Equal(b.previous, before) && (n.head.sequence > 0 || len(b.previous) > 0) {
			return 0, fmt.Errorf("%w: record %d does not follow the stored record %d", errForked, b.first, n.head.sequence)
		}
	}
	if b.last() <= n.head.sequence {
		return 0, nil
	}
	skip := n.head.sequence + 1 - b.first
	return b.last() - n.head.sequence, n.store(ctx, b, skip)
}

// store puts the records of b from index skip on at the end of the log.
func (n *lane) store(ctx context.Context, b *batch, skip int64) error {
	data, err := proto.Marshal(&ingestv1.PushRequest{
		Instance: b.source.instance, FirstSequence: b.first + skip, Records: b.encoded[skip:],
	})
	if err != nil {
		return fmt.Errorf("encode batch: %w", err)
	}
	position, err := n.log.Put(ctx, n.source.subject(), data, n.head.position)
	if err != nil {
		// Whether it was stored is not known; the log is asked next time.
		n.known = false
		return err
	}
	n.head = head{sequence: b.last(), digest: b.digests[len(b.digests)-1], position: position}
	return nil
}

// load finds the head in the log.
func (n *lane) load(ctx context.Context) error {
	s, ok, err := n.log.Last(ctx, n.source.subject())
	if err != nil {
		return err
	}
	h := head{}
	if ok {
		b, err := decodeBatch(s)
		if err != nil {
			return err
		}
		records := b.GetRecords()
		if len(records) == 0 {
			return fmt.Errorf("batch %d of the log is empty", s.Position)
		}
		h = head{
			sequence: b.GetFirstSequence() + int64(len(records)) - 1,
			digest:   sha256.Sum256(records[len(records)-1]),
			position: s.Position,
		}
	}
	n.head, n.known = h, true
	return nil
}

// compare returns an error that wraps errForked if a record of b is stored with
// other contents.
func (n *lane) compare(ctx context.Context, b *batch) error {
	from, err := n.find(ctx, b.first)
	if err != nil {
		return err
	}
	for until := min(b.last(), n.head.sequence); from <= n.head.position; {
		batches, _, err := n.log.Read(ctx, n.source.subject(), from, n.head.position+1, journal.ReadLimit)
		if err != nil {
			return err
		}
		if len(batches) == 0 {
			return fmt.Errorf("batch %d of the log is missing", n.head.position)
		}
		for _, s := range batches {
			from = s.Position + 1
			held, err := decodeBatch(s)
			if err != nil {
				return err
			}
			if held.GetFirstSequence() > until {
				return nil
			}
			if err := b.sameAs(held); err != nil {
				return err
			}
		}
	}
	return nil
}

// find returns the position of the batch that holds a stored record.
func (n *lane) find(ctx context.Context, sequence int64) (uint64, error) {
	lo, hi := uint64(1), n.head.position
	for lo < hi {
		middle := lo + (hi-lo)/2
		batches, _, err := n.log.Read(ctx, n.source.subject(), middle, hi+1, 1)
		if err != nil {
			return 0, err
		}
		if len(batches) == 0 {
			hi = middle - 1
			continue
		}
		held, err := decodeBatch(batches[0])
		if err != nil {
			return 0, err
		}
		switch first := held.GetFirstSequence(); {
		case sequence < first:
			hi = middle - 1
		case sequence >= first+int64(len(held.GetRecords())):
			lo = batches[0].Position + 1
		default:
			return batches[0].Position, nil
		}
	}
	return lo, nil
}

// sameAs compares the records that b and a stored batch both have.
func (b *batch) sameAs(held *ingestv1.PushRequest) error {
	for i, record := range held.GetRecords() {
		at := held.GetFirstSequence() + int64(i) - b.first
		if at < 0 || at >= int64(len(b.encoded)) {
			continue
		}
		if !bytes.Equal(b.encoded[at], record) {
			return fmt.Errorf("%w: record %d is stored with other contents", errForked, b.first+at)
		}
	}
	return nil
}
