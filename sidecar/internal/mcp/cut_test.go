package mcp_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// P8: a lapse before the server has begun to answer is no answer to who listens.
func TestLapseBeforeListening(t *testing.T) {
	arrived := make(chan struct{}, 2)
	speak := make(chan struct{})
	g := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-speak:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n")
	}))
	heard := make(chan string, 1)
	go func() {
		_, body := g.do(t, http.MethodGet, nil)
		heard <- body
	}()
	<-arrived
	g.replica.Lapse()
	g.replica.Extend(g.clock(), time.Hour, 0, time.Now())
	<-arrived
	close(speak)
	if body := <-heard; !strings.Contains(body, "list_changed") || strings.Contains(body, `"error":`) {
		t.Errorf("heard %s", body)
	}
}

// P2: nothing is passed on of what had arrived when the call was cut.
func TestCutAmidEvents(t *testing.T) {
	const progress = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":\"p\",\"progress\":%d}}\n\n"
	g := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		// One write, so that the question's answer is waited for with the rest
		// already there.
		_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"roots/list\"}\n\n"+progress, 2)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}), allow("greet", "tool support/greet"))
	g.records.onDecide = func(name string) {
		if name == "roots/list" {
			g.apply(t, []string{"namespaces/default/grants/greet"})
		}
	}
	if _, body := g.post(t, callGreet); strings.Contains(body, "progress") || !strings.Contains(body, `"reason":"not_granted"`) {
		t.Errorf("got %s", body)
	}
}
