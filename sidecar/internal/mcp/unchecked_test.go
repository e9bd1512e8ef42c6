package mcp_test

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
)

// A server that cannot be asked is said to be so once a minute for all calls of a
// session, however many are denied for it; each of them is counted.
func TestUncheckedOnceAMinute(t *testing.T) {
	s := newShop(item("greet", "Greets."))
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	var later atomic.Int64
	var said lines
	counts := metric.NewManualReader()
	g := newRigAt(t, server.URL, func(c *mcp.Config) {
		c.Clock = func() time.Duration { return time.Hour + time.Duration(later.Load()) }
		c.Log = slog.New(slog.NewTextHandler(&said, nil))
		c.Meter = metric.NewMeterProvider(metric.WithReader(counts)).Meter("test")
	}, allow("all", "tool support/*"))
	g.apply(t, nil, pin(t, "greet", item("greet", "Greets.")))
	s.set(func() { s.down = true })
	for minute := range 3 {
		for i := range 20 {
			if _, body := g.post(t, call(i, "greet", `{}`)); !strings.Contains(body, "could not be asked") {
				t.Fatalf("answered %s", body)
			}
		}
		if n := said.count("definition not checked"); n != minute+1 {
			t.Errorf("minute %d: said %d times", minute, n)
		}
		later.Add(int64(time.Minute))
	}
	var all metricdata.ResourceMetrics
	if err := counts.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "reeve.mcp.unchecked" {
			if n := sum.DataPoints[0].Value; n != 60 {
				t.Errorf("%d calls were counted", n)
			}
			return
		}
	}
	t.Error("no call was counted")
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}
