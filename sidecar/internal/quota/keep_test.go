package quota

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// held tells q what is held.
func held(q *Quota, wants ...Want) { q.Keep(slices.Values(wants)) }

// P1: a grant that goes and comes back finds its calls counted, for as long as it
// may come back; a counter that nothing needs is freed.
func TestKeep(t *testing.T) {
	hour := time.Hour
	expires := func(w Want, c *clock, after time.Duration) Want {
		w.Expire = c.now().Add(after)
		return w
	}
	for name, s := range map[string]struct {
		expire time.Duration // 0 is never
		held   time.Duration // for how long after the call
		away   time.Duration
		kept   bool
	}{
		"held":               {0, 100 * 24 * hour, 0, true},
		"held, expired":      {hour, 100 * 24 * hour, 0, true},
		"away for a moment":  {0, 0, time.Minute, true},
		"away for weeks":     {0, 0, 29 * 24 * hour, true},
		"away for long":      {0, 0, 31 * 24 * hour, false},
		"expired a moment":   {hour / 2, 0, hour - time.Minute, true},
		"expired long since": {hour, 0, 3 * hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, m := newClock(), &memory{}
			q := openMemory(t, m, c, discard())
			w := calls("u", 1)
			if s.expire > 0 {
				w = expires(w, c, s.expire)
			}
			if _, room := q.Take(w); room != Free {
				t.Fatal(room)
			}
			for end := c.now().Add(s.held); c.now().Before(end); c.add(s.held / 10) {
				held(q, w)
			}
			held(q)
			for end := c.now().Add(s.away); c.now().Before(end); c.add(s.away / 10) {
				held(q)
				q = openMemory(t, m, c, discard()) // with restarts
			}
			held(q)
			if kept := q.Look(&w) == Reached; kept != s.kept {
				t.Errorf("kept: %t, want %t", kept, s.kept)
			}
			if kept := openMemory(t, m, c, discard()).Look(&w) == Reached; kept != s.kept {
				t.Errorf("kept over a restart: %t, want %t", kept, s.kept)
			}
		})
	}
}

// An agent that opens sessions and ends them for as long as it likes does not take
// the room of what is limited: once in two seconds is what it may.
func TestManySessions(t *testing.T) {
	c, m := newClock(), &memory{}
	q := openMemory(t, m, c, discard())
	for i := range 12 * 3600 / 2 {
		w := calls("", 1)
		w.Key = SessionKey(fmt.Sprint(i), c.now())
		w.Expire = c.now().Add(24 * time.Hour)
		if _, room := q.Take(w); room != Free {
			t.Fatalf("session %d: %v", i, room)
		}
		if c.add(2 * time.Second); i%300 == 0 {
			held(q) // as every 10 minutes
		}
		if i%7_000 == 0 {
			q = openMemory(t, m, c, discard())
		}
	}
}

// The file is bounded: with no room for another counter what has none is denied,
// until what was longest not held may make way.
func TestBounded(t *testing.T) {
	c, m := newClock(), &memory{}
	q := openMemory(t, m, c, discard())
	var wants []Want
	for i := range maxSlots {
		w := calls(fmt.Sprint(i), 1)
		wants = append(wants, w)
		if _, room := q.Take(w); room != Free {
			t.Fatal(i, room)
		}
	}
	size := len(m.b)
	another := calls("another", 1)
	held(q, wants[1:]...)
	c.add(makeWayAfter - 1)
	if _, room := q.Take(another); room != Broken {
		t.Errorf("%v with %d counters", room, maxSlots)
	}
	c.add(1)
	if _, room := q.Take(another); room != Free {
		t.Errorf("%v when one may make way", room)
	}
	for _, q := range []*Quota{q, openMemory(t, m, c, discard())} {
		if q.Look(&another) != Reached || q.Look(&wants[1]) != Reached || q.Look(&wants[0]) != Free {
			t.Error("another made way")
		}
	}
	if len(m.b) > size || size > (maxSlots+1)*slotSize {
		t.Errorf("%d bytes, then %d", size, len(m.b))
	}
}

// A receipt of a counter that was freed meanwhile gives nothing back to whose it is
// now.
func TestGiveBackToNobody(t *testing.T) {
	c := newClock()
	m := &memory{}
	q := openMemory(t, m, c, discard())
	first, second := calls("first", 1), calls("second", 1)
	r, _ := q.Take(first)
	held(q)
	c.add(unheldFor)
	held(q)
	if _, room := q.Take(second); room != Free {
		t.Fatal(room)
	}
	q.GiveBack(&r)
	for _, q := range []*Quota{q, openMemory(t, m, c, discard())} {
		if q.Look(&second) != Reached {
			t.Error("given back to another")
		}
	}
}

// Counters that are damaged stay, whatever is held.
func TestKeepDamaged(t *testing.T) {
	c := newClock()
	m, wants := filled(t, c)
	m.b[offset(0)+60]++
	q := openMemory(t, m, c, discard())
	held(q)
	c.add(2 * unheldFor)
	held(q)
	if q.Look(&wants[0]) != Broken || q.Look(&wants[1]) != Free {
		t.Errorf("%v, %v", q.Look(&wants[0]), q.Look(&wants[1]))
	}
}
