// Package quota counts calls against limits, exactly, and so that the counts
// outlive the process: a call is counted in the state directory's file before it
// goes on, in the kernel and so out of reach of kill -9. As the spool's records
// do, the last counts before a loss of power may go with it.
//
// It fails closed: a counter that cannot be read or written is Broken, never zero.
package quota

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// file is what counts are kept in; in tests also one that breaks.
type file interface {
	ReadAt(b []byte, at int64) (int, error)
	WriteAt(b []byte, at int64) (int, error)
	Close() error
}

// A Quota is the counts of one sidecar. It is safe for concurrent use.
type Quota struct {
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	low     chan struct{} // tells Run that a counter is low

	mu    sync.Mutex
	file  file
	slots int64 // in the file
	// blind says why a key without a counter may have had one; empty if it cannot.
	blind    string
	known    map[Key]*slot
	counters map[owner]*slot
	unused   []int64 // indexes of free slots
	lows     map[*slot]Want
	failing  bool // the last write failed
	buf      []byte
}

// A slot is a counter in memory. Guarded by the Quota's mu.
type slot struct {
	state
	index int64
	// instants is a ring as in the file; nil until one is there.
	instants []int64
	// broken says that the counter cannot be relied on.
	broken bool
	// gone says that the counter was freed.
	gone bool
	// empty is the revision of the grant of which nothing is left to be drawn; 0
	// if that is not known.
	empty int64
	// drawing is closed when the draw under way has ended; nil if there is none.
	drawing chan struct{}
}

// A Receipt is what a Take has counted. The zero Receipt counts nothing.
type Receipt struct {
	counted [2]counted
}

type counted struct {
	key     Key
	slot    *slot
	instant int64
	rated   bool
}

// Has reports whether the receipt counts a call under k.
func (r *Receipt) Has(k Key) bool {
	return r.counted[0].slot != nil && r.counted[0].key == k || r.counted[1].slot != nil && r.counted[1].key == k
}

// Keys returns the keys under which the receipt counts a call.
func (r *Receipt) Keys() []Key {
	var keys []Key
	for i := range r.counted {
		if r.counted[i].slot != nil {
			keys = append(keys, r.counted[i].key)
		}
	}
	return keys
}

// Look returns whether a call could be counted under k. It allocates nothing for
// a key that was looked at before.
func (q *Quota) Look(w *Want) Room {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.find(w.Key)
	if s == nil {
		switch {
		case q.blind != "":
			return Broken
		case w.Limits.Shared && w.Limits.Max > 0:
			return Dry
		default:
			return Free
		}
	}
	return q.room(s, w)
}

// Take counts a call under each of wants, of which there are at most two, or
// under none of them. If it counts none it returns the room of the first that had
// none. Whatever it has counted is in the kernel when it returns.
func (q *Quota) Take(wants ...Want) (Receipt, Room) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var r Receipt
	if len(wants) > len(r.counted) {
		return r, Broken
	}
	for i := range wants {
		c, room := q.count(&wants[i])
		if room != Free {
			q.giveBack(&r)
			return Receipt{}, room
		}
		r.counted[i] = c
	}
	return r, Free
}

// GiveBack takes back what was counted for a call that was not made. What cannot
// be written stays counted. The receipt is empty afterwards.
func (q *Quota) GiveBack(r *Receipt) {
	if r.counted[0].slot == nil && r.counted[1].slot == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveBack(r)
}

// find returns the counter of k; nil if there is none. The caller holds mu.
func (q *Quota) find(k Key) *slot {
	if s, ok := q.known[k]; ok && !s.gone {
		return s
	}
	s := q.counters[k.owner()]
	if s != nil {
		q.known[k] = s
	}
	return s
}

// room returns whether s has room for one more. The caller holds mu.
func (q *Quota) room(s *slot, w *Want) Room {
	l := &w.Limits
	if s.broken || l.Rate < 0 || l.Rate > maxRate || l.Max < 0 {
		return Broken
	}
	if l.Max > 0 {
		switch {
		case s.used >= l.Max, l.Shared && s.used >= s.drawn && s.empty != 0 && s.empty == w.Revision:
			return Reached
		case l.Shared && s.used >= s.drawn:
			return Dry
		}
	}
	if l.Rate > 0 && !q.within(s, l) {
		if s.broken {
			return Broken
		}
		return Limited
	}
	return Free
}

// count counts one call. The caller holds mu.
func (q *Quota) count(w *Want) (counted, Room) {
	s := q.find(w.Key)
	if s == nil {
		if w.Limits.Shared && w.Limits.Max > 0 && q.blind == "" {
			return counted{}, Dry
		}
		var err error
		if s, err = q.make(w); err != nil {
			return counted{}, q.failed(err, w.Key)
		}
	}
	if room := q.room(s, w); room != Free {
		return counted{}, room
	}
	c := counted{key: w.Key, slot: s}
	next := s.state
	next.used++
	next.unheld = 0
	if !w.Expire.IsZero() {
		next.expire = w.Expire.UnixNano()
	}
	if w.Limits.Rate > 0 {
		c.rated = true
		var err error
		if c.instant, err = q.push(s, &next); err != nil {
			return counted{}, q.failed(err, w.Key)
		}
	}
	if err := q.store(s, &next); err != nil {
		return counted{}, q.failed(err, w.Key)
	}
	q.wrote()
	q.metrics.taken.Add(1)
	if w.Limits.Shared && w.Limits.Max > 0 {
		q.checkLow(s, w)
	}
	return c, Free
}

// giveBack takes back what r counts. The caller holds mu.
func (q *Quota) giveBack(r *Receipt) {
	for i := range r.counted {
		c := &r.counted[i]
		if c.slot == nil || c.slot.gone {
			continue
		}
		next := c.slot.state
		next.used = max(0, next.used-1)
		var err error
		if c.rated {
			err = q.pull(c.slot, &next, c.instant)
		}
		if err == nil {
			err = q.store(c.slot, &next)
		}
		if err != nil {
			q.failed(err, c.key)
			continue
		}
		q.metrics.returned.Add(1)
	}
	*r = Receipt{}
}

// store makes next the state of s, in the file and then in memory. The caller
// holds mu.
func (q *Quota) store(s *slot, next *state) error {
	q.buf = next.appendState(q.buf[:0], s.index)
	if _, err := q.file.WriteAt(q.buf, offset(s.index)); err != nil {
		return err
	}
	s.state = *next
	return nil
}

var (
	errFull  = fmt.Errorf("there are %d counters already, and each is held or was a short time ago", maxSlots)
	errBlind = errors.New("the file of counts is damaged")
)

// failed logs when counts begin to fail, not each time, and returns Broken. The
// caller holds mu.
func (q *Quota) failed(err error, k Key) Room {
	q.metrics.failed.Add(1)
	if !q.failing {
		q.failing = true
		q.log.Error("calls cannot be counted: those under limits are denied until they can be; see that the state directory has room",
			slog.Any("key", k), slog.Any("error", err))
	}
	return Broken
}

// wrote notes that counts can be written. The caller holds mu.
func (q *Quota) wrote() {
	if q.failing {
		q.failing = false
		q.log.Info("calls are counted again")
	}
}

// Close closes the file. Nothing can be counted afterwards.
func (q *Quota) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.blind = "closed"
	for _, s := range q.counters {
		s.broken = true
	}
	if q.file == nil {
		return nil
	}
	err := q.file.Close()
	q.file = nil
	return errors.Join(err, q.metrics.end())
}
