package quota

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// P1: of any number of calls at once exactly as many are let through as the limit
// says, and those after a restart are counted with them.
func TestExactUnderLoad(t *testing.T) {
	const limit = 1000
	for name, w := range map[string]Want{
		"calls": calls("u", limit),
		"rate":  rate("u", limit, time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			dir, c := t.TempDir(), newClock()
			let := int64(0)
			for round := range 4 {
				q := openFile(t, dir, c)
				var through atomic.Int64
				var callers sync.WaitGroup
				for range 64 {
					callers.Go(func() {
						for range 5 + 10*round {
							if q.Look(&w) != Free {
								continue
							}
							if _, room := q.Take(w); room == Free {
								through.Add(1)
							}
						}
					})
				}
				callers.Wait()
				let += through.Load()
				if err := q.Close(); err != nil {
					t.Fatal(err)
				}
				want := min(int64(limit), let)
				if q = openFile(t, dir, c); q.find(w.Key).used != want || let > limit {
					t.Fatalf("round %d: %d let through, %d counted", round, let, q.find(w.Key).used)
				}
				_ = q.Close()
			}
			if let != limit {
				t.Errorf("%d let through, want %d", let, limit)
			}
		})
	}
}

// The control of TestExactUnderLoad: whoever looks and does not take is not exact.
func TestLookingIsNotTaking(t *testing.T) {
	q := openMemory(t, &memory{}, newClock(), discard())
	w := calls("u", 1)
	for range 2 {
		if q.Look(&w) != Free {
			t.Fatal("not free")
		}
	}
	_, first := q.Take(w)
	_, second := q.Take(w)
	if first != Free || second != Reached {
		t.Errorf("%v, %v", first, second)
	}
}

// P1: in no stretch of time as long as the rate's are there more calls than it says,
// wherever it begins, and none is denied that would not make it so: compared with
// whoever keeps all instants.
func TestRateIsExact(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 200 {
		c, m := newClock(), &memory{}
		q := openMemory(t, m, c, discard())
		w := rate("u", 1+r.IntN(maxRate), time.Duration(1+r.IntN(20))*time.Second)
		if round%2 == 0 {
			w.Limits.Rate = 1 + r.IntN(5)
		}
		var let []int64
		var open []Receipt
		for range 1500 {
			switch dice := r.IntN(400); {
			case dice == 0:
				c.add(time.Duration(r.Int64N(int64(w.Limits.Per))))
			case dice < 20:
				if len(open) > 0 { // given back, in any order
					n := r.IntN(len(open))
					at := open[n].counted[0].instant
					q.GiveBack(&open[n])
					open = slices.Delete(open, n, n+1)
					n = slices.Index(let, at)
					let = slices.Delete(let, n, n+1)
				}
			case dice == 20:
				q = openMemory(t, m, c, discard())
				open = nil
			default:
				c.add(time.Duration(r.Int64N(int64(w.Limits.Per) / int64(w.Limits.Rate))))
			}
			now := c.now().UnixNano()
			within := 0
			for _, at := range slices.Backward(let) {
				if at <= now-int64(w.Limits.Per) {
					break
				}
				within++
			}
			want := Free
			if within >= w.Limits.Rate {
				want = Limited
			}
			if room := q.Look(&w); room != want {
				t.Fatalf("seed %d: look = %v, want %v, with %d of %d within", seed, room, want, within, w.Limits.Rate)
			}
			receipt, room := q.Take(w)
			if room != want {
				t.Fatalf("seed %d: take = %v, want %v, with %d of %d within", seed, room, want, within, w.Limits.Rate)
			}
			if room == Free {
				let, open = append(let, now), append(open, receipt)
			}
		}
	}
}

// P1: a clock that is set back lets nothing through that it would not have, and
// holds nothing up for longer than the rate's stretch.
func TestClockSetBack(t *testing.T) {
	c, m := newClock(), &memory{}
	w := rate("u", 3, time.Minute)
	q := openMemory(t, m, c, discard())
	if n, room := allowed(q, 9, w); n != 3 || room != Limited {
		t.Fatalf("%d, %v", n, room)
	}
	c.add(-365 * 24 * time.Hour)
	for range 2 { // and after a restart
		if n, _ := allowed(q, 9, w); n != 0 {
			t.Fatalf("%d after the clock was set back", n)
		}
		q = openMemory(t, m, c, discard())
	}
	c.add(time.Minute - 1)
	if n, _ := allowed(q, 9, w); n != 0 {
		t.Errorf("%d too early", n)
	}
	c.add(1)
	if n, _ := allowed(q, 9, w); n != 3 {
		t.Errorf("%d a minute later, want 3", n)
	}
}

// What was counted for a call that was not made is free again, and what is given
// back twice counts once.
func TestGiveBack(t *testing.T) {
	q := openMemory(t, &memory{}, newClock(), discard())
	w := Want{Key: GrantKey("u"), Limits: Limits{Max: 2, Rate: 2, Per: time.Minute}}
	r, _ := q.Take(w)
	if !r.Has(w.Key) || r.Has(GrantKey("v")) {
		t.Error("what the receipt counts")
	}
	copied := r
	_, _ = q.Take(w)
	if _, room := q.Take(w); room != Reached {
		t.Errorf("%v", room)
	}
	q.GiveBack(&r)
	q.GiveBack(&r)
	if n, _ := allowed(q, 9, w); n != 1 {
		t.Errorf("%d, want 1", n)
	}
	if copied.Has(w.Key); r.Has(w.Key) {
		t.Error("given back and still there")
	}
}

// Of two limits both count a call or neither does.
func TestBothOrNeither(t *testing.T) {
	q := openMemory(t, &memory{}, newClock(), discard())
	many, few := calls("many", 100), Want{Key: SessionKey("s", time.Unix(1, 0)), Limits: Limits{Max: 3}}
	for _, order := range [][]Want{{many, few}, {few, many}} {
		if n, room := allowed(q, 9, order...); room != Reached || n > 3 {
			t.Errorf("%d, %v", n, room)
		}
	}
	if used := q.find(many.Key).used; used != 3 {
		t.Errorf("%d counted, want 3", used)
	}
	if _, room := q.Take(many, many, many); room != Broken {
		t.Error("three at once")
	}
	// A session opened anew under the same name is another.
	again := few
	again.Key = SessionKey("s", time.Unix(2, 0))
	if q.Look(&few) != Reached || q.Look(&again) != Free {
		t.Error("a session opened anew is not another")
	}
}

// P3: with no room on the disk nothing is let through, and it is said once; what is
// counted is as it was.
func TestFullDisk(t *testing.T) {
	for name, w := range map[string]Want{
		"calls": calls("u", 10), "rate": rate("u", 10, time.Hour),
	} {
		for _, first := range []bool{true, false} { // the counter is to be made, or is there
			t.Run(fmt.Sprintf("%s/%t", name, first), func(t *testing.T) {
				var j journal
				m, c := &memory{}, newClock()
				q := openMemory(t, m, c, j.log())
				want := 10
				if !first {
					if _, room := q.Take(w); room != Free {
						t.Fatal(room)
					}
					want = 9
				}
				m.fails = func(int64, int) error { return errFullDisk }
				for range 5 {
					if _, room := q.Take(w); room != Broken {
						t.Errorf("%v with a full disk", room)
					}
				}
				if n := strings.Count(j.String(), "ERROR"); n != 1 || !strings.Contains(j.String(), errFullDisk.Error()) {
					t.Errorf("said %d times:\n%s", n, j.String())
				}
				m.fails = nil
				if n, _ := allowed(q, 99, w); n != want {
					t.Errorf("%d when there is room again, want %d", n, want)
				}
				if !strings.Contains(j.String(), "counted again") {
					t.Error("not said that it is over")
				}
				if n, _ := allowed(openMemory(t, m, c, discard()), 9, w); n != 0 {
					t.Errorf("%d more after a restart", n)
				}
			})
		}
	}
}

// The file is for this user only.
func TestFileMode(t *testing.T) {
	dir := t.TempDir()
	_ = openFile(t, dir, newClock()).Close()
	info, err := os.Stat(filepath.Join(dir, "quota"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// What was closed denies.
func TestClosed(t *testing.T) {
	q := openMemory(t, &memory{}, newClock(), discard())
	w, other := calls("u", 10), calls("v", 10)
	_, _ = q.Take(w)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for _, w := range []Want{w, other} {
		if _, room := q.Take(w); room != Broken || q.Look(&w) != Broken {
			t.Errorf("%v after Close", room)
		}
	}
}
