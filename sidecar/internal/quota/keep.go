package quota

import (
	"iter"
	"log/slog"
	"time"
)

// A counter is freed when what it counts is not held and was not for a while: a
// grant may come back, over a stream from another replica or because a label did,
// and must not come back with all its calls. It is freed
//   - expiredFor after it stopped being held, if it has expired by then, since what
//     comes back expired allows nothing, or is a session's, since none comes back:
//     an agent opens and ends them as often as it likes, and must not fill the file;
//   - unheldFor after it stopped being held, whatever it is;
//   - makeWayAfter, if it is the one not held for the longest and there is no room
//     for another.
const (
	expiredFor   = time.Hour
	unheldFor    = 30 * 24 * time.Hour
	makeWayAfter = 24 * time.Hour
)

// Keep says what is held: everything under limits that could be counted now. It is
// to be called now and then, and only while what is held is known.
func (q *Quota) Keep(held iter.Seq[Want]) {
	owners := make(map[owner]int64)
	for w := range held {
		expire := int64(0)
		if !w.Expire.IsZero() {
			expire = w.Expire.UnixNano()
		}
		owners[w.Key.owner()] = expire
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now().UnixNano()
	for o, s := range q.counters {
		if s.broken {
			continue // nothing of it is sure, and so it stays
		}
		next := s.state
		expire, ok := owners[o]
		switch {
		case ok:
			next.expire, next.unheld = expire, 0
		case s.unheld == 0 || s.unheld > now:
			next.unheld = now
		case s.drawing != nil:
		case s.out(now):
			q.free(s)
			continue
		}
		if next != s.state {
			if err := q.store(s, &next); err != nil {
				q.log.Warn("counters are kept for longer than needed", slog.Any("error", err))
				return
			}
		}
	}
	for k, s := range q.known {
		if s.gone {
			delete(q.known, k)
		}
	}
}

// out reports whether a counter is freed.
func (s *slot) out(now int64) bool {
	since := time.Duration(now - s.unheld)
	return since >= unheldFor || since >= expiredFor && (s.kind == sessionKind || s.expire != 0 && s.expire <= now)
}

// free frees a counter. The caller holds mu.
func (q *Quota) free(s *slot) bool {
	was := s.owner
	if err := q.store(s, new(state)); err != nil {
		q.log.Warn("counters are kept for longer than needed", slog.Any("error", err))
		return false
	}
	q.unused = append(q.unused, s.index)
	delete(q.counters, was)
	delete(q.lows, s)
	s.gone = true
	return true
}

// evict frees the counter that was not held for the longest, and reports whether
// there was one that may go. The caller holds mu.
func (q *Quota) evict() bool {
	now := q.now().UnixNano()
	var longest *slot
	for _, s := range q.counters {
		if !s.broken && s.drawing == nil && s.unheld != 0 && time.Duration(now-s.unheld) >= makeWayAfter &&
			(longest == nil || s.unheld < longest.unheld) {
			longest = s
		}
	}
	return longest != nil && q.free(longest)
}
