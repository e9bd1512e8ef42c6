package quota

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A pot is what several sidecars draw from. A repeated request gets the same calls.
type pot struct {
	mu     sync.Mutex
	left   int64
	given  map[string]int64
	asked  []int64 // how many calls each request was for
	fails  func(n int) error
	loses  func(n int) bool // the answer, not the request
	delay  time.Duration
	atOnce int
	most   int
}

var errOffline = errors.New("offline")

func (p *pot) DrawCalls(ctx context.Context, _, _ string, calls int64, request string) (int64, int64, error) {
	p.mu.Lock()
	p.atOnce++
	p.most = max(p.most, p.atOnce)
	n := len(p.asked)
	p.asked = append(p.asked, calls)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.atOnce--
	}()
	select {
	case <-time.After(p.delay):
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails != nil {
		if err := p.fails(n); err != nil {
			return 0, 0, err
		}
	}
	drawn, again := p.given[request]
	if !again {
		drawn = min(calls, p.left)
		p.left -= drawn
		p.given[request] = drawn
	}
	if p.loses != nil && p.loses(n) {
		return 0, 0, errOffline
	}
	return drawn, p.left, nil
}

func newPot(left int64) *pot { return &pot{left: left, given: make(map[string]int64)} }

func shared(n int64) Want {
	return Want{Key: GrantKey("u"), Limits: Limits{Max: n, Shared: true}, Grant: "g", Revision: 7}
}

// spend takes and draws as a call does, and returns how many calls there were.
func spend(t *testing.T, q *Quota, p *pot, w Want, most int) int {
	t.Helper()
	for n := 0; ; {
		_, room := q.Take(w)
		switch room {
		case Free:
			if n++; n == most {
				return n
			}
		case Dry:
			if q.Draw(t.Context(), p, w) != nil {
				return n // whoever calls would try again
			}
		case Reached:
			return n
		default:
			t.Fatal(room)
		}
	}
}

// P1: several sidecars that draw from the same pot, restarted now and then, with
// answers that are lost, let as many calls through together as there are, and at the
// end none is left over.
func TestSharedExactly(t *testing.T) {
	const limit = 1000
	c, p := newClock(), newPot(limit)
	p.loses = func(n int) bool { return n%4 == 1 }
	memories := []*memory{{}, {}, {}}
	w := shared(limit)
	n := 0
	for idle := 0; idle < 20; {
		got := 0
		for _, m := range memories {
			got += spend(t, openMemory(t, m, c, discard()), p, w, 17)
		}
		if n += got; got == 0 {
			idle++
		}
	}
	if n != limit || p.left != 0 {
		t.Errorf("%d calls, %d left, want %d and none", n, p.left, limit)
	}
}

// The control of TestSharedExactly: who makes up a new request each time loses what
// answers lost.
func TestLostAnswersLose(t *testing.T) {
	p := newPot(100)
	p.loses = func(n int) bool { return n%2 == 0 }
	_, _, _ = p.DrawCalls(t.Context(), "", "", 10, "one")
	drawn, _, _ := p.DrawCalls(t.Context(), "", "", 10, "two")
	if drawn != 10 || p.left != 80 {
		t.Errorf("%d drawn, %d left", drawn, p.left)
	}
}

// Blocks are an eighth of what is left, at least one and at the most a hundred.
func TestBlocks(t *testing.T) {
	for _, c := range []struct {
		limit int64
		want  []int64
	}{
		{3, []int64{1, 1, 1}},
		{32, []int64{4, 3, 3, 2, 2}},
		{1_000_000, []int64{100, 100, 100}},
	} {
		p := newPot(c.limit)
		q := openMemory(t, &memory{}, newClock(), discard())
		_ = spend(t, q, p, shared(c.limit), 300)
		for i, n := range c.want {
			if i >= len(p.asked) || p.asked[i] != n {
				t.Errorf("of %d: asked for %v, want %v", c.limit, p.asked, c.want)
				break
			}
		}
	}
}

// Calls are drawn ahead of need: but for the first, none waits.
func TestDrawnAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newClock(), newPot(10_000)
		p.delay = time.Second
		q := openMemory(t, &memory{}, c, discard())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- q.Run(ctx, p) }()
		w := shared(10_000)
		if _, room := q.Take(w); room != Dry {
			t.Fatal(room)
		}
		if err := q.Draw(ctx, p, w); err != nil {
			t.Fatal(err)
		}
		p.fails = func(n int) error {
			if n == 5 {
				return errOffline
			}
			return nil
		}
		for n := range 3000 {
			if _, room := q.Take(w); room != Free {
				t.Fatalf("call %d: %v", n, room)
			}
			time.Sleep(200 * time.Millisecond)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if p.most != 1 {
			t.Errorf("%d draws at once", p.most)
		}
	})
}

// Callers who find nothing left wait for one draw, and each only for as long as it
// may.
func TestOneDraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPot(1000)
		p.delay = time.Minute
		q := openMemory(t, &memory{}, newClock(), discard())
		w := shared(1000)
		var callers sync.WaitGroup
		for n := range 20 {
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				if n == 7 {
					ctx, cancel = context.WithTimeout(t.Context(), 0)
				}
				defer cancel()
				if err := q.Draw(ctx, p, w); (err != nil) != (ctx.Err() != nil) {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if p.most > 1 || len(p.asked) > 2 {
			t.Errorf("%d at once, %d in all", p.most, len(p.asked))
		}
		if n, room := allowed(q, 999, w); n != 100 || room != Dry {
			t.Errorf("%d, %v", n, room)
		}
	})
}

// That nothing is left is remembered until the grant is another.
func TestNothingLeft(t *testing.T) {
	p := newPot(2)
	q := openMemory(t, &memory{}, newClock(), discard())
	w := shared(10)
	if n := spend(t, q, p, w, 99); n != 2 {
		t.Errorf("%d, want 2", n)
	}
	asked := len(p.asked)
	if n := spend(t, q, p, w, 99); n != 0 || len(p.asked) != asked || q.Look(&w) != Reached {
		t.Errorf("%d more, asked %d times more", n, len(p.asked)-asked)
	}
	p.left, w.Revision, w.Limits.Max = 3, 8, 13
	if n := spend(t, q, p, w, 99); n != 3 {
		t.Errorf("%d of another revision, want 3", n)
	}
}

// An answer that gives more than was asked for, or less than nothing, is none.
func TestStrangeAnswers(t *testing.T) {
	for _, answer := range [][2]int64{{1_000_000, 5}, {-1, 5}, {1, -5}} {
		q := openMemory(t, &memory{}, newClock(), discard())
		w := shared(10)
		if err := q.Draw(t.Context(), fixed(answer), w); err == nil {
			t.Errorf("%v was taken in", answer)
		}
		if q.Look(&w) != Dry {
			t.Errorf("%v left calls", answer)
		}
	}
}

type fixed [2]int64

func (f fixed) DrawCalls(context.Context, string, string, int64, string) (int64, int64, error) {
	return f[0], f[1], nil
}

// P3: what cannot be written is not drawn, nor is what was drawn and cannot be
// written used.
func TestDrawWithFullDisk(t *testing.T) {
	m, p := &memory{}, newPot(100)
	q := openMemory(t, m, newClock(), discard())
	w := shared(100)
	writes := 0
	m.fails = func(int64, int) error {
		if writes++; writes > 4 { // the counter and the request
			return errFullDisk
		}
		return nil
	}
	if err := q.Draw(t.Context(), p, w); !errors.Is(err, errFullDisk) {
		t.Errorf("%v", err)
	}
	if n, room := allowed(q, 9, w); n != 0 || room != Dry {
		t.Errorf("%d, %v", n, room)
	}
	m.fails = nil
	if n := spend(t, q, p, w, 999); n != 100 {
		t.Errorf("%d in all, want 100", n)
	}
}
