package quota

// maxRate is the most calls that a rate may count.
const maxRate = 1000

// within reports whether one more call now is within the rate. The caller holds
// mu.
//
// Instants are in order. One that lies ahead of now was taken before a clock was
// set back: when it was is not known, only that it is over, so that it is held to
// be now. This never counts it for less than its time.
func (q *Quota) within(s *slot, l *Limits) bool {
	if s.next-s.oldest < uint64(l.Rate) { //nolint:gosec // not negative
		return true
	}
	now := q.now().UnixNano()
	if last := s.instants[(s.next-1)%instants]; last > now {
		if err := q.bringBack(s, now); err != nil {
			return false
		}
	}
	return s.instants[(s.next-uint64(l.Rate))%instants] <= now-int64(l.Per) //nolint:gosec // not negative
}

// bringBack has all instants that lie ahead of now be now. The caller holds mu.
func (q *Quota) bringBack(s *slot, now int64) error {
	for n := s.next; n > s.oldest; n-- {
		at := (n - 1) % instants
		if s.instants[at] <= now {
			break
		}
		if err := q.put(s, n-1, now); err != nil {
			return err
		}
	}
	return nil
}

// put stores the n-th instant, in the file and then in memory. The caller holds mu.
func (q *Quota) put(s *slot, n uint64, instant int64) error {
	q.buf = appendInstant(q.buf[:0], s.owner, n, instant)
	if _, err := q.file.WriteAt(q.buf, place(s.index, n)); err != nil {
		return err
	}
	s.instants[n%instants] = instant
	return nil
}

// push puts now after the other instants, which takes effect with next. The caller
// holds mu.
func (q *Quota) push(s *slot, next *state) (int64, error) {
	if s.instants == nil {
		s.instants = make([]int64, instants)
	}
	now := q.now().UnixNano()
	if s.next > s.oldest {
		if last := s.instants[(s.next-1)%instants]; last > now {
			if err := q.bringBack(s, now); err != nil {
				return 0, err
			}
		}
	}
	if err := q.put(s, s.next, now); err != nil {
		return 0, err
	}
	next.next = s.next + 1
	if next.next-next.oldest >= instants {
		next.oldest = next.next - (instants - 1)
	}
	return now, nil
}

// pull takes out one instant, which takes effect with next. Those after it move
// up, each written before the one after it is written over: whenever this breaks
// off, what is there counts one call too many and none too few. The caller holds
// mu.
func (q *Quota) pull(s *slot, next *state, instant int64) error {
	if s.next == s.oldest {
		return nil
	}
	n := s.next - 1
	for n > s.oldest && s.instants[n%instants] > instant {
		n--
	}
	for ; n+1 < s.next; n++ {
		if err := q.put(s, n, s.instants[(n+1)%instants]); err != nil {
			return err
		}
	}
	next.next = s.next - 1
	return nil
}
