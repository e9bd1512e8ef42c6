// Package session remembers the sessions that servers began with the agent, and
// what is under way in each. They are the protocol's own, and another thing than
// the agent's session, in which calls are decided.
package session

import (
	"bytes"
	"container/list"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"sync"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/rule"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sight"
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

// A Key names a session. Of servers that keep none, the ID is empty.
type Key struct {
	// Server is the id of the server.
	Server string
	// ID is what the server calls the session.
	ID string
}

// A session is what must be remembered of a server's session with this agent.
type session struct {
	key Key
	// questions are what the server asked and the agent has not answered.
	questions map[message.ID]*pep.Permit
	// streams are what the answers that can be resumed are answers to, by their
	// number.
	streams map[uint64]Origin
	last    uint64
	// offers are the kinds of lists that the server has.
	offers sight.Kinds
}

// An Origin is what a stream answers: the message of the agent with this ID,
// which is zero for a stream that only listens.
type Origin struct {
	ID   message.ID
	Rule rule.Rule
	// Calls are what was decided for it.
	Calls []pdp.Call
	// Session is the id of the agent's session that it was sent in; empty for none.
	Session string
	// Counted is what has counted the calls.
	Counted pep.Counted
	// Method and Params are of the message, and Size is its length in bytes.
	Method string
	Params *strictjson.Object
	Size   int
}

// Sessions are the sessions that servers began with this agent through this
// sidecar. A session id or event id from anywhere else is unknown here, which
// is how both are bound to the agent. It is safe for concurrent use.
type Sessions struct {
	secret []byte

	mu    sync.Mutex
	byKey map[Key]*list.Element // of *session
	used  *list.List            // the newest first
}

// New returns none.
func New() *Sessions {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails
	return &Sessions{secret: secret, byKey: make(map[Key]*list.Element), used: list.New()}
}

// Begin remembers a session.
func (s *Sessions) Begin(ctx context.Context, key Key) {
	s.mu.Lock()
	s.get(key, true)
	var forgotten *session
	if oldest := s.used.Back(); s.used.Len() > maxSessions {
		forgotten = s.remove(oldest)
	}
	s.mu.Unlock()
	forgotten.end(ctx)
}

// Offer remembers the kinds of lists that the session's server has.
func (s *Sessions) Offer(key Key, kinds sight.Kinds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if session := s.get(key, false); session != nil {
		session.offers = kinds
	}
}

// Offers returns the kinds of lists that the session's server has: all, where that
// is not known.
func (s *Sessions) Offers(key Key) sight.Kinds {
	s.mu.Lock()
	defer s.mu.Unlock()
	if session := s.get(key, false); session != nil {
		return session.offers
	}
	return sight.All
}

// Known reports whether the session can be used. No session always can.
func (s *Sessions) Known(key Key) bool {
	if key.ID == "" {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(key, false) != nil
}

// End forgets a session, because the server has.
func (s *Sessions) End(ctx context.Context, key Key) {
	s.mu.Lock()
	var ended *session
	if e := s.byKey[key]; e != nil {
		ended = s.remove(e)
	}
	s.mu.Unlock()
	ended.end(ctx)
}

// Close forgets every session.
func (s *Sessions) Close(ctx context.Context) {
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

// Ask remembers that the server asked something, which permit allowed; nil if
// it needed none. It reports whether there was room, and returns the permit of the
// same question asked before: a stream that is resumed repeats it. Another question
// cannot be asked by the id of one that is waiting.
func (s *Sessions) Ask(key Key, id message.ID, permit *pep.Permit) (before *pep.Permit, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.get(key, key.ID == "")
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

// Answer forgets a question and returns its permit. ok is false if nobody asked.
func (s *Sessions) Answer(key Key, id message.ID) (permit *pep.Permit, ok bool) {
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

// Resumable remembers what a stream answers, and returns its number: 0 if the
// session is not known any more.
func (s *Sessions) Resumable(key Key, o Origin) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.get(key, key.ID == "")
	if session == nil {
		return 0
	}
	session.last++
	session.streams[session.last] = o
	delete(session.streams, session.last-maxResumable)
	return session.last
}

// Tag returns event with the number of its stream, in a form that only this
// sidecar can make, and only for this session.
func (s *Sessions) Tag(key Key, stream uint64, event string) string {
	number := strconv.FormatUint(stream, 10)
	return number + "." + s.mac(key, number, event) + "." + event
}

// Resume returns what tag was given, and what the stream answers.
func (s *Sessions) Resume(key Key, tagged string) (stream uint64, o Origin, event string, ok bool) {
	number, rest, _ := strings.Cut(tagged, ".")
	mac, event, ok := strings.Cut(rest, ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(s.mac(key, number, event))) {
		return 0, Origin{}, "", false
	}
	stream, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, Origin{}, "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.get(key, false)
	if session == nil {
		return 0, Origin{}, "", false
	}
	o, ok = session.streams[stream]
	return stream, o, event, ok
}

func (s *Sessions) mac(key Key, number, event string) string {
	h := hmac.New(sha256.New, s.secret)
	for _, part := range [...]string{key.Server, key.ID, number, event} {
		h.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// get returns a session and counts as a use of it; nil if there is none, unless
// it is to be created. s.mu must be held.
func (s *Sessions) get(key Key, create bool) *session {
	if e := s.byKey[key]; e != nil {
		s.used.MoveToFront(e)
		return e.Value.(*session)
	}
	if !create {
		return nil
	}
	begun := &session{key: key, offers: sight.All, questions: make(map[message.ID]*pep.Permit), streams: make(map[uint64]Origin)}
	s.byKey[key] = s.used.PushFront(begun)
	return begun
}

// remove forgets a session. s.mu must be held.
func (s *Sessions) remove(e *list.Element) *session {
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
