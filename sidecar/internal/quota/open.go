package quota

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// remedy is what to do about damage: nothing that is safe happens by itself.
const remedy = "make the grant anew, or stop the sidecar and remove the file: then all counts begin at zero"

// Open opens the file of counts at path, which is made, 0600, if it is not there.
// now is the time of day that rates are counted by; it is asked often, and must
// not call back.
//
// Damage is no error: what was damaged is Broken, and if it cannot be told what
// that was, every key without a counter is.
func Open(path string, now func() time.Time, log *slog.Logger, meter metric.Meter) (*Quota, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open counts: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open counts: %w", errors.Join(err, f.Close()))
	}
	q, err := open(f, info.Size(), now, log.With(slog.String("file", path)), meter)
	if err != nil {
		return nil, fmt.Errorf("open counts %s: %w", path, errors.Join(err, f.Close()))
	}
	return q, nil
}

func open(f file, size int64, now func() time.Time, log *slog.Logger, meter metric.Meter) (*Quota, error) {
	q := &Quota{
		now: now, log: log, file: f, low: make(chan struct{}, 1),
		known: make(map[Key]*slot), counters: make(map[owner]*slot), lows: make(map[*slot]Want),
	}
	var err error
	if size == 0 {
		_, err = f.WriteAt(headOf(0), 0)
	} else {
		err = q.load()
	}
	if err != nil {
		return nil, err
	}
	q.metrics, err = newMetrics(meter, q)
	return q, err
}

// load reads the file. Only what the system reports is an error.
func (q *Quota) load() error {
	head := make([]byte, headSize)
	if err := q.read(head, 0); err != nil {
		return err
	}
	var err error
	if q.slots, err = parseHead(head); err != nil {
		q.blind = err.Error()
		q.log.Error("counts are damaged: every call under a limit is denied", slog.Any("error", err), slog.String("remedy", remedy))
		return nil
	}
	b := make([]byte, slotSize)
	for index := range q.slots {
		clear(b)
		if err := q.read(b, offset(index)); err != nil {
			return err
		}
		q.take(index, b)
	}
	return nil
}

// read reads what there is of b; the rest stays as it is.
func (q *Quota) read(b []byte, at int64) error {
	if _, err := q.file.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// take takes in the slot at index.
func (q *Quota) take(index int64, b []byte) {
	s := &slot{index: index}
	var err error
	if s.state, err = parseState(b[:stateSize], index); err == nil && s.free() {
		q.unused = append(q.unused, index)
		return
	}
	if err == nil {
		err = s.loadInstants(b[ringAt:])
	} else if s.owner, err = parseOwner(b[ownerAt:ownerAt+ownerSize], index); err != nil {
		q.blind = fmt.Sprintf("it cannot be told whose counter %d is", index)
		q.log.Error("a count is damaged, and it cannot be told of what: calls under a limit that has no count yet are denied",
			slog.Int64("counter", index), slog.String("remedy", remedy))
		return
	} else {
		err = errDamaged
	}
	if err == nil && q.counters[s.owner] != nil {
		err = fmt.Errorf("%w: it is there twice", errDamaged)
	}
	if err != nil {
		s.broken = true
		q.log.Error("a count is damaged: calls under its limit are denied",
			slog.Int64("counter", index), slog.Any("error", err), slog.String("remedy", remedy))
	}
	q.counters[s.owner] = s
}

// loadInstants reads the instants that the state says are there.
func (s *slot) loadInstants(ring []byte) error {
	if s.next == s.oldest {
		return nil
	}
	s.instants = make([]int64, instants)
	for n := s.oldest; n < s.next; n++ {
		at := (n % instants) * instantSize
		instant, err := parseInstant(ring[at:at+instantSize], s.owner, n)
		if err != nil {
			return err
		}
		s.instants[n%instants] = instant
	}
	return nil
}

// make makes a counter for w. The caller holds mu.
func (q *Quota) make(w *Want) (*slot, error) {
	if q.blind != "" {
		return nil, errBlind
	}
	if len(q.unused) == 0 && q.slots == maxSlots && !q.evict() {
		return nil, errFull
	}
	index, fresh := q.slots, true
	if n := len(q.unused); n > 0 {
		index, fresh = q.unused[n-1], false
	}
	s := &slot{index: index}
	s.owner, s.kind = w.Key.owner(), w.Key.kind
	if !w.Expire.IsZero() {
		s.expire = w.Expire.UnixNano()
	}
	// The state is what makes it a counter, and so comes after the owner; of a new
	// slot, the head.
	if _, err := q.file.WriteAt(appendOwner(nil, s.owner, index), offset(index)+ownerAt); err != nil {
		return nil, err
	}
	if err := q.store(s, &s.state); err != nil {
		return nil, err
	}
	if fresh {
		if _, err := q.file.WriteAt(headOf(index+1), 0); err != nil {
			return nil, err
		}
		q.slots = index + 1
	} else {
		q.unused = q.unused[:len(q.unused)-1]
	}
	q.counters[s.owner] = s
	q.known[w.Key] = s
	return s, nil
}
