package pin_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/own"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/pin"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bound = 10 * time.Second

var at = own.Place{Server: "desk", Session: "s1"}

// server lists items, each time after taking took.
type server struct {
	mu    sync.Mutex
	items []string
	asked int
	took  time.Duration
	err   error
}

func (s *server) Tools(ctx context.Context, _ own.Place, each func([]byte)) error {
	s.mu.Lock()
	s.asked++
	items, took, err := s.items, s.took, s.err
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(took):
	}
	for _, item := range items {
		each([]byte(item))
	}
	return err
}

func (s *server) list(items ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = items
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

const good, bad = `{"name":"refund","description":"Refunds."}`, `{"name":"refund","description":"Refunds, and more."}`

func run(t *testing.T, s *server, test func(t *testing.T, l *pin.Lists, digest string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		digest, _, err := schema.Digest([]byte(good))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		l := pin.New(s, func(_, tool string) string { return map[string]string{"refund": digest}[tool] },
			&notes{}, func() time.Duration { return time.Since(began) })
		test(t, l, digest)
		l.Close()
	})
}

// P1, P2: what was seen is believed for less than the bound, and a change that the
// server announces at once, also while it is being asked.
func TestCheck(t *testing.T) {
	s := &server{items: []string{good}, took: time.Second}
	run(t, s, func(t *testing.T, l *pin.Lists, digest string) {
		t.Helper()
		check := func(want error, asked int) {
			t.Helper()
			if err := l.Check(t.Context(), at, "refund", digest, bound); !errors.Is(err, want) || s.count() != asked {
				t.Errorf("%v after %d lists, want %v after %d", err, s.count(), want, asked)
			}
		}
		check(nil, 1)
		s.list(bad)
		time.Sleep(3 * time.Second)
		check(nil, 1) // 4 s old
		time.Sleep(bound)
		check(pin.ErrChanged, 2)
		s.list(good)
		l.Drop("mail")
		check(pin.ErrChanged, 2)
		l.Drop("desk")
		check(nil, 3)
		l.Drop("desk")
		done := make(chan error)
		go func() { done <- l.Check(t.Context(), at, "refund", digest, bound) }()
		time.Sleep(time.Second / 2)
		s.list(bad)
		l.Drop("desk") // what is being listed is of before
		if err := <-done; !errors.Is(err, pin.ErrChanged) || s.count() != 5 {
			t.Errorf("dropped while asked: %v, %d lists", err, s.count())
		}
	})
}

// A list is fetched ahead of time, and who comes meanwhile does not wait.
func TestAhead(t *testing.T) {
	s := &server{items: []string{good}, took: time.Second}
	run(t, s, func(t *testing.T, l *pin.Lists, digest string) {
		t.Helper()
		check := func() time.Duration {
			t.Helper()
			began := time.Now()
			if err := l.Check(t.Context(), at, "refund", digest, bound); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		if took := check(); took != time.Second {
			t.Errorf("the first took %v", took)
		}
		for range 100 {
			time.Sleep(time.Second)
			if took := check(); took != 0 {
				t.Errorf("a call waited for %v", took)
			}
		}
		if n := s.count(); n < 15 || n > 21 {
			t.Errorf("%d lists in 100 s, with a bound of 10 s", n)
		}
	})
}

// P1: what cannot be known is not believed; who waits may give up, and the rest of
// them do not.
func TestUnknown(t *testing.T) {
	s := &server{items: []string{good}, took: time.Hour}
	run(t, s, func(t *testing.T, l *pin.Lists, digest string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if err := l.Check(ctx, at, "refund", digest, bound); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("gave up: %v", err)
			}
		})
		all.Go(func() {
			began := time.Now()
			err := l.Check(t.Context(), at, "refund", digest, bound)
			if took := time.Since(began); err == nil || errors.Is(err, pin.ErrChanged) || took != 10*time.Second {
				t.Errorf("a server that does not answer: %v after %v", err, took)
			}
		})
		all.Wait()
		if n := s.count(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		go func() { time.Sleep(time.Second); l.Close() }()
		if err := l.Check(t.Context(), at, "refund", digest, bound); err == nil {
			t.Error("believed when the sidecar stopped")
		}
	})
}

// A server that says without end that its list has changed has one call ask it a
// few times, and what was asked in vain ends at once.
func TestStorm(t *testing.T) {
	s := &server{items: []string{good}, took: time.Second}
	run(t, s, func(t *testing.T, l *pin.Lists, digest string) {
		t.Helper()
		storm, stop := context.WithCancel(t.Context())
		var storming sync.WaitGroup
		storming.Go(func() {
			for storm.Err() == nil {
				time.Sleep(100 * time.Millisecond) // on the bubble's clock
				l.Drop("desk")
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Check(ctx, at, "refund", digest, bound); err == nil || errors.Is(err, pin.ErrChanged) || ctx.Err() != nil {
			t.Errorf("%v", err)
		}
		if n := s.count(); n > 3 {
			t.Errorf("asked %d times for one call", n)
		}
		stop()
		storming.Wait()
		if err := l.Check(t.Context(), at, "refund", digest, bound); err != nil {
			t.Errorf("after the storm: %v", err)
		}
	})
}

// However many lists there are and however long, only so much is remembered; what
// is forgotten is asked for again.
func TestMuch(t *testing.T) {
	s := &server{items: []string{good}}
	for i := range 9_000 {
		s.items = append(s.items, fmt.Sprintf(`{"name":"t%d"}`, i))
	}
	s.items = append(s.items, `{"name":"`+strings.Repeat("n", 129)+`"}`)
	run(t, s, func(t *testing.T, l *pin.Lists, digest string) {
		t.Helper()
		for i := range 14 {
			if err := l.Check(t.Context(), own.Place{Server: "desk", Session: strconv.Itoa(i)}, "refund", digest, bound); err != nil {
				t.Fatal(err)
			}
			if n := l.Held(); n > 100_000 || n%9_001 != 0 {
				t.Fatalf("%d tools are remembered", n)
			}
		}
		l.Drop("desk")
		if n := l.Held(); n != 0 {
			t.Errorf("%d tools are remembered of nothing", n)
		}
	})
}

// What is not read alike by all does not count, and what is too much is not known.
func TestItems(t *testing.T) {
	for name, c := range map[string]struct {
		items []string
		want  error
	}{
		"as accepted":      {[]string{`{ "description":"Refund\u0073.", "name":"r\u0065fund" }`}, nil},
		"twice":            {[]string{good, good}, pin.ErrChanged},
		"twice, differing": {[]string{good, bad}, pin.ErrChanged},
		"another case":     {[]string{strings.Replace(good, "refund", "Refund", 1)}, pin.ErrChanged},
		"twin members":     {[]string{`{"name":"refund","name":"refund","description":"Refunds."}`}, pin.ErrChanged},
		"lookalike member": {[]string{`{"name":"refund","Name":"refund","description":"Refunds."}`}, pin.ErrChanged},
		"no object":        {[]string{`"refund"`, `[]`, `null`, `{}`, `{"name":7}`}, pin.ErrChanged},
		"none":             {nil, pin.ErrChanged},
	} {
		s := &server{items: c.items}
		run(t, s, func(t *testing.T, l *pin.Lists, digest string) {
			t.Helper()
			if err := l.Check(t.Context(), at, "refund", digest, bound); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// P1: whatever a server lists, only what was accepted is shown.
func FuzzItem(f *testing.F) {
	digest, _, err := schema.Digest([]byte(good))
	if err != nil {
		f.Fatal(err)
	}
	for _, item := range []string{good, bad, `{}`, `{"description":"Refunds.","name":"refund"}`, `{"name":"refund","name":"x"}`} {
		f.Add([]byte(item))
	}
	l := pin.New(&server{}, func(string, string) string { return digest }, &notes{}, func() time.Duration { return 0 })
	f.Fuzz(func(t *testing.T, item []byte) {
		if !l.Passing("desk").Item("refund", item, true) {
			return
		}
		if _, canonical, err := schema.Digest(item); err != nil || canonical != `{"description":"Refunds.","name":"refund"}` {
			t.Fatalf("%s is shown", item)
		}
	})
}
