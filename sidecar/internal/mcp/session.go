package mcp

import (
	"bytes"
	"container/list"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"sync"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

const (
	// maxSessions is how many sessions are remembered; the one that was not
	// used for longest is forgotten first, and its agent begins another.
	maxSessions = 1024
	// maxQuestions is how many requests of a server may wait for the agent's
	// answer in one session.
	maxQuestions = 64
	// maxResumable is how many of a session's streams can be resumed.
	maxResumable = 64
)

// A sessionKey names a session. Of servers that keep none, the ID is empty.
type sessionKey struct{ server, id string }

// A session is what must be remembered of a server's session with this agent.
type session struct {
	key sessionKey
	// questions are what the server asked and the agent has not answered.
	questions map[message.ID]*pep.Permit
	// streams are what the answers that can be resumed are answers to, by their
	// number.
	streams map[uint64]origin
	last    uint64
}

// An origin is what a stream answers: id is zero for one that only listens.
type origin struct {
	id    message.ID
	rule  rule
	calls []pdp.Call
}

// sessions are the sessions that servers began with this agent through this
// sidecar. A session id or event id from anywhere else is unknown here, which
// is how both are bound to the agent. It is safe for concurrent use.
type sessions struct {
	secret []byte

	mu    sync.Mutex
	byKey map[sessionKey]*list.Element // of *session
	used  *list.List                   // the newest first
}

func newSessions() *sessions {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails
	return &sessions{secret: secret, byKey: make(map[sessionKey]*list.Element), used: list.New()}
}

// begin remembers a session.
func (s *sessions) begin(ctx context.Context, key sessionKey) {
	s.mu.Lock()
	s.get(key, true)
	var forgotten *session
	if oldest := s.used.Back(); s.used.Len() > maxSessions {
		forgotten = s.remove(oldest)
	}
	s.mu.Unlock()
	forgotten.end(ctx)
}

// known reports whether the session can be used. No session always can.
func (s *sessions) known(key sessionKey) bool {
	if key.id == "" {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(key, false) != nil
}

// end forgets a session, because the server has.
func (s *sessions) end(ctx context.Context, key sessionKey) {
	s.mu.Lock()
	var ended *session
	if e := s.byKey[key]; e != nil {
		ended = s.remove(e)
	}
	s.mu.Unlock()
	ended.end(ctx)
}

// close forgets every session.
func (s *sessions) close(ctx context.Context) {
	s.mu.Lock()
	var ended []*session
	for s.used.Len() > 0 {
		ended = append(ended, s.remove(s.used.Front()))
	}
	s.mu.Unlock()
	for _, e := range ended {
		e.end(ctx)
	}
}

// ask remembers that the server asked something, which permit allowed; nil if
// it needed none. It reports whether there was room, and returns the permit of the
// same question asked before: a stream that is resumed repeats it. Another question
// cannot be asked by the id of one that is waiting.
func (s *sessions) ask(key sessionKey, id message.ID, permit *pep.Permit) (before *pep.Permit, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.get(key, key.id == "")
	if session == nil {
		return nil, false
	}
	before, waiting := session.questions[id]
	if waiting && !same(before, permit) || !waiting && len(session.questions) >= maxQuestions {
		return nil, false
	}
	session.questions[id] = permit
	return before, true
}

// same reports whether two permits are for the same question.
func same(a, b *pep.Permit) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Call.Name == b.Call.Name &&
		bytes.Equal(strictjson.Append(nil, a.Call.Args), strictjson.Append(nil, b.Call.Args))
}

// answer forgets a question and returns its permit. ok is false if nobody asked.
func (s *sessions) answer(key sessionKey, id message.ID) (permit *pep.Permit, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.get(key, false)
	if session == nil {
		return nil, false
	}
	permit, ok = session.questions[id]
	delete(session.questions, id)
	return permit, ok
}

// resumable remembers what a stream answers, and returns its number: 0 if the
// session is not known any more.
func (s *sessions) resumable(key sessionKey, o origin) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.get(key, key.id == "")
	if session == nil {
		return 0
	}
	session.last++
	session.streams[session.last] = o
	delete(session.streams, session.last-maxResumable)
	return session.last
}

// tag returns event with the number of its stream, in a form that only this
// sidecar can make, and only for this session.
func (s *sessions) tag(key sessionKey, stream uint64, event string) string {
	number := strconv.FormatUint(stream, 10)
	return number + "." + s.mac(key, number, event) + "." + event
}

// resume returns what tag was given, and what the stream answers.
func (s *sessions) resume(key sessionKey, tagged string) (stream uint64, o origin, event string, ok bool) {
	number, rest, _ := strings.Cut(tagged, ".")
	mac, event, ok := strings.Cut(rest, ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(s.mac(key, number, event))) {
		return 0, origin{}, "", false
	}
	stream, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, origin{}, "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.get(key, false)
	if session == nil {
		return 0, origin{}, "", false
	}
	o, ok = session.streams[stream]
	return stream, o, event, ok
}

func (s *sessions) mac(key sessionKey, number, event string) string {
	h := hmac.New(sha256.New, s.secret)
	for _, part := range [...]string{key.server, key.id, number, event} {
		h.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// get returns a session and counts as a use of it; nil if there is none, unless
// it is to be created. s.mu must be held.
func (s *sessions) get(key sessionKey, create bool) *session {
	if e := s.byKey[key]; e != nil {
		s.used.MoveToFront(e)
		return e.Value.(*session)
	}
	if !create {
		return nil
	}
	begun := &session{key: key, questions: make(map[message.ID]*pep.Permit), streams: make(map[uint64]origin)}
	s.byKey[key] = s.used.PushFront(begun)
	return begun
}

// remove forgets a session. s.mu must be held.
func (s *sessions) remove(e *list.Element) *session {
	old := s.used.Remove(e).(*session)
	delete(s.byKey, old.key)
	return old
}

// end gives up what the session's server still waits for. It is called without
// the lock, on a session that nobody can find any more.
func (s *session) end(ctx context.Context) {
	if s == nil {
		return
	}
	for _, permit := range s.questions {
		if permit != nil {
			permit.End(ctx, decisionv1.Outcome_CANCELLED)
		}
	}
}

// delete ends a session.
func (x *exchange) delete() outcome {
	if refused := x.checkSession(); refused != nil {
		return x.refuse(refused)
	}
	ctx := x.r.Context()
	if refused := x.authorize(ctx); refused != nil {
		return x.refuse(refused)
	}
	return x.forward(ctx, http.MethodDelete, nil)
}

// checkSession refuses a session that the server did not begin through here.
func (x *exchange) checkSession() *refusal {
	if len(x.r.Header[message.HeaderSession]) > 1 || !x.h.sessions.known(x.key) {
		return unknownSession
	}
	return nil
}

var unknownSession = &refusal{
	status: http.StatusNotFound, code: message.CodeInvalidRequest,
	message: "This session was not begun here, or is over: begin a new one.",
}
