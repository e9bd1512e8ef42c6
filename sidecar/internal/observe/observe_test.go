package observe_test

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/observe"
)

// plane is a control plane that takes note of reports, and fails while err is set.
type plane struct {
	mu      sync.Mutex
	err     error
	calls   int
	reports []string // "server tool definition"
}

func (p *plane) ReportTools(_ context.Context, r *grantv1.ReportToolsRequest, _ ...grpc.CallOption) (*grantv1.ReportToolsResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.err != nil {
		return nil, p.err
	}
	for _, t := range r.GetTools() {
		p.reports = append(p.reports, r.GetServer()+" "+t.GetName()+" "+t.GetDefinition())
	}
	return &grantv1.ReportToolsResponse{}, nil
}

func (p *plane) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *plane) seen() (calls int, reports string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls, strings.Join(p.reports, ", ")
}

func run(t *testing.T, test func(r *observe.Reporter, p *plane)) {
	t.Helper()
	runWith(t, slog.DiscardHandler, test)
}

func runWith(t *testing.T, log slog.Handler, test func(r *observe.Reporter, p *plane)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		r := observe.New(p, slog.New(log))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = r.Run(ctx) })
		test(r, p)
		cancel()
		running.Wait()
	})
}

// digestOf is what tells one definition from another.
func digestOf(definition string) string {
	return strconv.Itoa(len(definition)) + definition[:min(len(definition), 40)]
}

// Each definition is reported once, however often it is seen.
func TestOnce(t *testing.T) {
	run(t, func(r *observe.Reporter, p *plane) {
		for range 100 {
			r.Withheld("desk", "refund", digestOf(`{"a":1}`), `{"a":1}`)
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		r.Withheld("desk", "refund", digestOf(`{"a":1}`), `{"a":1}`)
		r.Withheld("desk", "refund", digestOf(`{"a":2}`), `{"a":2}`)
		r.Withheld("mail", "refund", digestOf(`{"a":1}`), `{"a":1}`)
		time.Sleep(time.Hour)
		calls, got := p.seen()
		if calls != 3 || strings.Count(got, "desk refund") != 2 || !strings.Contains(got, `desk refund {"a":2}`) || !strings.Contains(got, `mail refund {"a":1}`) {
			t.Errorf("%d calls: %s", calls, got)
		}
	})
}

// The log says what was reported: as a warning, if agents are denied for it.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	runWith(t, slog.NewTextHandler(&log, nil), func(r *observe.Reporter, p *plane) {
		said := func(want string) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			_, got, _ := strings.Cut(log.String(), " ") // after the time
			if !strings.HasPrefix(got, want) || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("said %q; want %q", log.String(), want)
			}
			log.Reset()
		}
		r.Withheld("desk", "refund", "d1", `{}`)
		said(`level=WARN msg="definitions of tools reported" server=desk tools=1 withheld=true`)
		r.Unpinned("desk", "close", "d1", `{}`)
		said(`level=INFO msg="definitions of tools reported" server=desk tools=1 withheld=false`)
		p.fail(status.Error(codes.PermissionDenied, "no"))
		r.Withheld("desk", "refund", "d2", `{"b":1}`)
		said(`level=WARN msg="definitions of tools not taken note of" server=desk tools=1 withheld=true error=`)
	})
}

// What could not be reported is reported later, seldom; what is refused is not.
func TestTriesAgain(t *testing.T) {
	run(t, func(r *observe.Reporter, p *plane) {
		p.fail(status.Error(codes.Unavailable, "away"))
		r.Withheld("desk", "refund", digestOf(`{}`), `{}`)
		time.Sleep(time.Hour)
		if calls, _ := p.seen(); calls < 10 || calls > 30 {
			t.Errorf("%d calls in an hour", calls)
		}
		p.fail(nil)
		time.Sleep(10 * time.Minute)
		if _, got := p.seen(); got != "desk refund {}" {
			t.Errorf("reported %q", got)
		}
		before, _ := p.seen()
		p.fail(status.Error(codes.PermissionDenied, "no"))
		r.Withheld("desk", "mail", digestOf(`{}`), `{}`)
		time.Sleep(time.Hour)
		if calls, _ := p.seen(); calls != before+1 {
			t.Errorf("%d calls of what is refused", calls-before)
		}
	})
}

// What waits is bounded, and so is a report.
func TestBounded(t *testing.T) {
	run(t, func(r *observe.Reporter, p *plane) {
		p.fail(status.Error(codes.Unavailable, "away"))
		for i := range 1000 {
			r.Withheld("desk", "tool"+strconv.Itoa(i), digestOf(`{}`), `{}`)
		}
		r.Withheld("desk", strings.Repeat("x", 129), digestOf(`{}`), `{}`)
		r.Withheld("desk", "huge", digestOf(strings.Repeat("x", 65<<10)), strings.Repeat("x", 65<<10))
		time.Sleep(time.Minute)
		p.fail(nil)
		time.Sleep(time.Hour)
		calls, got := p.seen()
		if n := strings.Count(got, "desk "); n > 256+64 || n < 256 || strings.Contains(got, "huge") || calls < 4 {
			t.Errorf("%d reported in %d calls", n, calls)
		}
	})
}

// What was reported of a tool is followed by each change of it, also back to what
// was accepted, unless the server lists that beside another.
func TestChanges(t *testing.T) {
	run(t, func(r *observe.Reporter, p *plane) {
		const good, bad = `{"a":1}`, `{"a":2}`
		expect := func(want ...string) {
			t.Helper()
			time.Sleep(time.Minute)
			p.mu.Lock()
			defer p.mu.Unlock()
			if got := strings.Join(p.reports, ", "); got != strings.Join(want, ", ") {
				t.Errorf("reported %q, want %q", got, want)
			}
			p.reports = nil
		}
		accepted := func() { r.Accepted("desk", "refund", digestOf(good), good) }
		withheld := func() { r.Withheld("desk", "refund", digestOf(bad), bad) }
		accepted() // an earlier process may have reported another
		expect("desk refund " + good)
		accepted()
		expect()
		withheld()
		accepted()
		expect("desk refund " + bad)
		withheld()
		accepted()
		expect()
		accepted()
		expect("desk refund " + good)
		withheld()
		expect("desk refund " + bad)
	})
}

// A server with very many unpinned tools is not heard of without end, and keeps
// nothing from being reported that is withheld.
func TestManyUnpinned(t *testing.T) {
	run(t, func(r *observe.Reporter, p *plane) {
		for range 100 {
			for i := range 10_000 {
				r.Unpinned("desk", "tool"+strconv.Itoa(i), "d", `{}`)
			}
			for i := range 300 {
				r.Accepted("mail", "tool"+strconv.Itoa(i), "d", `{}`)
			}
			time.Sleep(10 * time.Second)
		}
		_, got := p.seen()
		if unpinned, accepted := strings.Count(got, "desk "), strings.Count(got, "mail "); unpinned != 256 || accepted != 300 {
			t.Errorf("%d unpinned ones reported, and %d others", unpinned, accepted)
		}
	})
	run(t, func(r *observe.Reporter, p *plane) {
		r.Unpinned("shop", "first", "d", `{}`)
		synctest.Wait() // the pause after this report holds back what follows
		for i := range 256 {
			r.Unpinned("desk", "tool"+strconv.Itoa(i), "d", `{}`)
		}
		if r.Unpinned("mail", "send", "d", `{}`) {
			t.Error("there is room for more")
		}
		r.Withheld("mail", "refund", "d", `{"bad":1}`)
		time.Sleep(6 * time.Second)
		if _, got := p.seen(); !strings.Contains(got, "mail refund") {
			t.Errorf("what is withheld waits")
		}
	})
}
