package mcp_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// asker is a server that asks a question before it answers a call, and again when
// the stream is resumed. It keeps what it is answered.
type asker struct {
	answers chan http.Header
	deletes atomic.Int64
}

const question = "id: 1\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"elicitation/create\",\"params\":{}}\n\n"

func (a *asker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var m struct{ Method string }
	_ = json.Unmarshal(body, &m)
	switch {
	case r.Method == http.MethodDelete:
		a.deletes.Add(1)
		w.WriteHeader(http.StatusMethodNotAllowed)
	case m.Method == "initialize":
		(&echo{}).ServeHTTP(w, r)
	case r.Method == http.MethodPost && m.Method != "tools/call":
		a.answers <- r.Header
		w.WriteHeader(http.StatusAccepted)
	default:
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: 0\ndata: \n\n"+question)
	}
}

func newAsker(t *testing.T, grants ...string) (*asker, *agent) {
	t.Helper()
	s := &asker{answers: make(chan http.Header, 10)}
	g := newRig(t, s, allow("greet", "tool support/greet"))
	for _, target := range grants {
		g.apply(t, nil, allow("more", target))
	}
	a := newAgent(t, g)
	resp := a.send(t.Context(), t, http.MethodPost, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}`)
	resp.Body.Close()
	a.session = resp.Header.Get("Mcp-Session-Id")
	return s, a
}

// A question that a resumed stream repeats is passed on again, not answered in the
// agent's place.
func TestQuestionRepeated(t *testing.T) {
	s, a := newAsker(t, "method support/elicitation/create")
	resp := a.send(t.Context(), t, http.MethodPost, callGreet)
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	id, _, _ := strings.Cut(strings.TrimPrefix(string(text), "id: "), "\n")
	resp = a.send(t.Context(), t, http.MethodGet, "", "Last-Event-Id", id)
	text, _ = io.ReadAll(resp.Body)
	if resp.Body.Close(); !strings.Contains(string(text), "elicitation/create") {
		t.Errorf("resumed: %s", text)
	}
	resp = a.send(t.Context(), t, http.MethodPost, `{"jsonrpc":"2.0","id":7,"result":{"action":"decline"}}`)
	if resp.Body.Close(); resp.StatusCode != http.StatusAccepted || len(s.answers) != 1 {
		t.Errorf("answer: %s, the server got %d", resp.Status, len(s.answers))
	}
}

// What the sidecar says to a server itself does not carry the headers that describe
// the agent's message, and neither does what has no message.
func TestHeadersOfMessage(t *testing.T) {
	s, a := newAsker(t)
	resp := a.send(t.Context(), t, http.MethodPost, callGreet, "Mcp-Method", "tools/call", "Mcp-Name", "greet", "Mcp-Param-Name", "Ann")
	_, _ = io.ReadAll(resp.Body) // who leaves before the question is answered ends that too
	resp.Body.Close()
	h := <-s.answers
	for _, name := range []string{"Mcp-Method", "Mcp-Name", "Mcp-Param-Name"} {
		if h.Get(name) != "" {
			t.Errorf("the answer has %s: %s", name, h.Get(name))
		}
	}
	if got := h.Get("Mcp-Session-Id"); got != a.session {
		t.Errorf("session %q, want %q", got, a.session)
	}
}

// A session that the server does not let the agent end goes on.
func TestSessionStays(t *testing.T) {
	s, a := newAsker(t)
	for range 2 {
		resp := a.send(t.Context(), t, http.MethodDelete, "")
		if resp.Body.Close(); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("delete: %s", resp.Status)
		}
	}
	if n := s.deletes.Load(); n != 2 {
		t.Errorf("the server was asked %d times", n)
	}
}
