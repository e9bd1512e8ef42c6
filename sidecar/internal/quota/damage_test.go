package quota

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

// filled returns a file in which a, b and c have 3 of 10 calls left, b by a rate
// and c as a session's, and wants for them.
func filled(tb testing.TB, c *clock) (*memory, []Want) {
	tb.Helper()
	m := &memory{}
	q := openMemory(tb, m, c, discard())
	wants := []Want{calls("a", 10), rate("b", 10, 24*time.Hour), {
		Key: SessionKey("namespaces/n/agents/a/sessions/s", time.Unix(5, 0)), Limits: Limits{Max: 10, Rate: 10, Per: time.Hour},
	}}
	for _, w := range wants {
		for range 7 {
			if _, room := q.Take(w); room != Free {
				tb.Fatal(room)
			}
		}
	}
	return m, wants
}

// P3: whatever bytes are damaged, by whatever amount, no counter begins anew: those
// that cannot be relied on deny, and what to do is said.
func TestDamageDenies(t *testing.T) {
	c := newClock()
	whole, wants := filled(t, c)
	for name, d := range map[string]struct {
		damage func(b []byte) []byte
		broken string // which of the three
		blind  bool   // what has no counter is denied too
	}{
		"none":         {func(b []byte) []byte { return b }, "", false},
		"head":         {func(b []byte) []byte { b[3]++; return b }, "abc", true},
		"head zeroed":  {func(b []byte) []byte { clear(b[:headSize]); return b }, "abc", true},
		"all zeroed":   {func(b []byte) []byte { clear(b); return b }, "abc", true},
		"foreign":      {func([]byte) []byte { return []byte("hello") }, "abc", true},
		"state":        {func(b []byte) []byte { b[offset(0)+60]++; return b }, "a", false},
		"state zeroed": {func(b []byte) []byte { clear(b[offset(0) : offset(0)+stateSize]); return b }, "a", false},
		"slot zeroed":  {func(b []byte) []byte { clear(b[offset(0):offset(1)]); return b }, "a", true},
		"instant":      {func(b []byte) []byte { b[place(1, 3)]++; return b }, "b", false},
		"instants cut": {func(b []byte) []byte { clear(b[place(1, 0):offset(2)]); return b }, "b", false},
		"truncated":    {func(b []byte) []byte { return b[:offset(2)] }, "c", true},
		"truncated in": {func(b []byte) []byte { return b[:place(2, 3)] }, "c", false},
		"swapped": {func(b []byte) []byte {
			a := bytes.Clone(b[offset(0):offset(1)])
			copy(b[offset(0):], b[offset(1):offset(2)])
			copy(b[offset(1):], a)
			return b
		}, "ab", true},
		"older": {func(b []byte) []byte { // a block of the file from another counter of the same place
			copy(b[offset(0):], b[offset(1):offset(1)+stateSize])
			return b
		}, "a", false},
	} {
		t.Run(name, func(t *testing.T) {
			var j journal
			q := openMemory(t, &memory{b: d.damage(bytes.Clone(whole.b))}, c, j.log())
			for i, w := range wants {
				want := 3
				if strings.Contains(d.broken, string(rune('a'+i))) {
					want = 0
				}
				n, room := allowed(q, 99, w)
				if n != want || (want == 0) != (room == Broken) {
					t.Errorf("%c: %d and then %v, want %d", 'a'+i, n, room, want)
				}
			}
			_, room := q.Take(calls("new", 5))
			if (room == Broken) != d.blind {
				t.Errorf("what has no counter: %v", room)
			}
			if said := strings.Contains(j.String(), "remove the file"); said != (d.broken != "") {
				t.Errorf("log: %s", j.String())
			}
		})
	}
}

// P3: a write that a kill broke off at any place is either all there or not: what
// is found afterwards counts at least what was let through, and at the most one
// call more.
func TestBrokenOff(t *testing.T) {
	for _, w := range []Want{calls("u", 50), rate("u", 50, time.Hour)} {
		c := newClock()
		for after := range 80 {
			m := &memory{}
			n := 0
			m.fails = func(int64, int) error {
				if n++; n > after {
					return errFullDisk
				}
				return nil
			}
			let := int64(0)
			q, err := open(m, 0, c.now, discard(), noop.Meter{})
			if err != nil {
				continue // not even a head
			}
			var last Receipt
			for i := range 30 {
				c.add(time.Second)
				r, room := q.Take(w)
				if room == Free {
					let++
				}
				if i%3 == 0 {
					last = r
				}
				if i%5 == 4 && room == Free && last.counted[0].slot != nil {
					if before := n; before < after-60 {
						let--
						q.GiveBack(&last)
					}
				}
			}
			m.fails = nil
			again := openMemory(t, m, c, discard())
			used := int64(0)
			if s := again.find(w.Key); s != nil {
				used = s.used
			}
			if used < let || used > let+1 || again.blind != "" {
				t.Fatalf("after %d writes %d were let through and %d counted, %q", after, let, used, again.blind)
			}
		}
	}
}

// P3: whatever a file holds, reading it ends, and what it knew before it was
// changed it counts as it was or not at all.
func FuzzOpen(f *testing.F) {
	c := newClock()
	whole, wants := filled(f, c)
	f.Add(0, []byte{}, len(whole.b))
	f.Add(int(offset(0))+60, []byte{1}, len(whole.b))
	f.Add(24, []byte{0}, len(whole.b))
	f.Add(int(place(1, 2)), []byte{1, 2, 3, 4, 5, 6, 7, 8}, len(whole.b))
	f.Add(0, whole.b[offset(1):offset(2)], 100)
	f.Fuzz(func(t *testing.T, at int, patch []byte, length int) {
		b := bytes.Clone(whole.b)
		if at >= 0 && at < len(b) {
			copy(b[at:], patch)
		}
		if length >= 0 && length < len(b) {
			b = b[:length]
		}
		if len(b) == 0 {
			return // that is a new one
		}
		q := openMemory(t, &memory{b: b}, c, discard())
		for i, w := range wants {
			if n, room := allowed(q, 99, w); n > 3 || n < 3 && room != Broken {
				t.Errorf("%d: %d and then %v", i, n, room)
			}
		}
	})
}

// The control of FuzzOpen: without the checksum the patch of a count is believed.
func TestFuzzSeesForgery(t *testing.T) {
	c := newClock()
	m, wants := filled(t, c)
	s, err := parseState(m.b[offset(0):offset(0)+stateSize], 0)
	if err != nil {
		t.Fatal(err)
	}
	s.used = 1
	copy(m.b[offset(0):], s.appendState(nil, 0))
	if n, _ := allowed(openMemory(t, m, c, discard()), 99, wants[0]); n != 9 {
		t.Errorf("%d, want 9: a count that was forged with its checksum", n)
	}
}

// A file of another size of slots is not read as one of this.
func TestHead(t *testing.T) {
	h := headOf(7)
	if n, err := parseHead(h); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for i := range h {
		b := bytes.Clone(h)
		b[i] ^= 0x40
		if _, err := parseHead(b); err == nil {
			t.Errorf("byte %d changed, and read", i)
		}
	}
	if _, err := parseHead(headOf(maxSlots + 1)); err == nil {
		t.Errorf("more than %d counters", maxSlots)
	}
}
