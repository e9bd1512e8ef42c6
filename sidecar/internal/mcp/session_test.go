package mcp

import (
	"strconv"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// An event id is good for the session, the server and the stream it was made
// for, and for nothing else.
func TestEventIDsAreBound(t *testing.T) {
	t.Parallel()
	s, other := newSessions(), newSessions()
	key := sessionKey{"support", "s1"}
	s.begin(t.Context(), key)
	s.begin(t.Context(), sessionKey{"support", "s2"})
	s.begin(t.Context(), sessionKey{"billing", "s1"})
	other.begin(t.Context(), key)
	first := s.resumable(key, origin{})
	second := s.resumable(key, origin{})
	tagged := s.tag(key, first, "e.7")
	if stream, _, event, ok := s.resume(key, tagged); !ok || stream != first || event != "e.7" {
		t.Fatalf("resume = %d, %q, %t", stream, event, ok)
	}
	for name, try := range map[string]func() bool{
		"another session":  func() bool { _, _, _, ok := s.resume(sessionKey{"support", "s2"}, tagged); return ok },
		"another server":   func() bool { _, _, _, ok := s.resume(sessionKey{"billing", "s1"}, tagged); return ok },
		"another sidecar":  func() bool { _, _, _, ok := other.resume(key, tagged); return ok },
		"another stream":   func() bool { _, _, _, ok := s.resume(key, strconv.FormatUint(second, 10)+tagged[1:]); return ok },
		"another event":    func() bool { _, _, _, ok := s.resume(key, tagged+"8"); return ok },
		"the server's own": func() bool { _, _, _, ok := s.resume(key, "e.7"); return ok },
		"nothing":          func() bool { _, _, _, ok := s.resume(key, ""); return ok },
	} {
		if try() {
			t.Errorf("%s could be resumed", name)
		}
	}
	s.end(t.Context(), key)
	if _, _, _, ok := s.resume(key, tagged); ok {
		t.Error("a session that ended could be resumed")
	}
}

// What is remembered is bounded, whatever agents and servers do.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSessions()
	for i := range 2 * maxSessions {
		s.begin(t.Context(), sessionKey{"support", strconv.Itoa(i)})
	}
	if s.known(sessionKey{"support", "0"}) || !s.known(sessionKey{"support", strconv.Itoa(2*maxSessions - 1)}) {
		t.Error("it is not the oldest session that was forgotten")
	}
	if n := s.used.Len(); n != maxSessions || len(s.byKey) != n {
		t.Errorf("%d sessions, %d keys", n, len(s.byKey))
	}
	key := sessionKey{"support", strconv.Itoa(2*maxSessions - 1)}
	for range 2 * maxResumable {
		s.resumable(key, origin{})
	}
	if n := len(s.get(key, false).streams); n != maxResumable {
		t.Errorf("%d streams", n)
	}
	asked := 0
	for i := range 2 * maxQuestions {
		m, err := message.Parse([]byte(`{"jsonrpc":"2.0","id":`+strconv.Itoa(i)+`,"method":"ping"}`), strictjson.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.ask(key, m.ID, nil); ok {
			asked++
		}
		if _, ok := s.ask(key, m.ID, &pep.Permit{}); ok {
			t.Error("another question was asked by the same id")
		}
	}
	if asked != maxQuestions {
		t.Errorf("%d questions", asked)
	}
}
