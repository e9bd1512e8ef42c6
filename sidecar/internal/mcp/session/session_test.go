package session

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
	s, other := New(), New()
	key := Key{"support", "s1"}
	s.Begin(t.Context(), key)
	s.Begin(t.Context(), Key{"support", "s2"})
	s.Begin(t.Context(), Key{"billing", "s1"})
	other.Begin(t.Context(), key)
	first := s.Resumable(key, Origin{})
	second := s.Resumable(key, Origin{})
	tagged := s.Tag(key, first, "e.7")
	if stream, _, event, ok := s.Resume(key, tagged); !ok || stream != first || event != "e.7" {
		t.Fatalf("resume = %d, %q, %t", stream, event, ok)
	}
	for name, try := range map[string]func() bool{
		"another session":  func() bool { _, _, _, ok := s.Resume(Key{"support", "s2"}, tagged); return ok },
		"another server":   func() bool { _, _, _, ok := s.Resume(Key{"billing", "s1"}, tagged); return ok },
		"another sidecar":  func() bool { _, _, _, ok := other.Resume(key, tagged); return ok },
		"another stream":   func() bool { _, _, _, ok := s.Resume(key, strconv.FormatUint(second, 10)+tagged[1:]); return ok },
		"another event":    func() bool { _, _, _, ok := s.Resume(key, tagged+"8"); return ok },
		"the server's own": func() bool { _, _, _, ok := s.Resume(key, "e.7"); return ok },
		"nothing":          func() bool { _, _, _, ok := s.Resume(key, ""); return ok },
	} {
		if try() {
			t.Errorf("%s could be resumed", name)
		}
	}
	s.End(t.Context(), key)
	if _, _, _, ok := s.Resume(key, tagged); ok {
		t.Error("a session that ended could be resumed")
	}
}

// What is remembered is bounded, whatever agents and servers do.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	s := New()
	for i := range 2 * maxSessions {
		s.Begin(t.Context(), Key{"support", strconv.Itoa(i)})
	}
	if s.Known(Key{"support", "0"}) || !s.Known(Key{"support", strconv.Itoa(2*maxSessions - 1)}) {
		t.Error("it is not the oldest session that was forgotten")
	}
	if n := s.used.Len(); n != maxSessions || len(s.byKey) != n {
		t.Errorf("%d sessions, %d keys", n, len(s.byKey))
	}
	key := Key{"support", strconv.Itoa(2*maxSessions - 1)}
	for range 2 * maxResumable {
		s.Resumable(key, Origin{})
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
		if _, ok := s.Ask(key, m.ID, nil); ok {
			asked++
		}
		if _, ok := s.Ask(key, m.ID, &pep.Permit{}); ok {
			t.Error("another question was asked by the same id")
		}
	}
	if asked != maxQuestions {
		t.Errorf("%d questions", asked)
	}
}
