// Package state seals what a server has the agent keep until it asks again
// (requestState of 2026-07-28), so that it can be used once, and for nothing but
// the request that it was given for.
package state

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

const (
	// maxOutstanding is how many states may be kept by the agent at a time. The
	// oldest is forgotten first: the agent asks again from the start.
	maxOutstanding = 4096
	numberSize     = 16
	macSize        = 16
)

var (
	// ErrForeign is for a state that was not given for this request, or not by
	// this sidecar since its start.
	ErrForeign = errors.New("this requestState was not given for this request")
	// ErrSpent is for a state that has been used, or was given long ago.
	ErrSpent = errors.New("this requestState has been used already, or is too old")
)

// A Binding is what a state is good for.
type Binding struct {
	// Server is the server, Upstream its own session, and Session the agent's.
	Server, Upstream, Session string
	// Method is the method, and Params the digest of what the request says, but
	// for what changes when it is asked again.
	Method string
	Params [sha256.Size]byte
}

// retried are the parameters that may differ when a request is asked again.
var retried = [...]string{message.ParamState, "inputResponses", "_meta"}

// Digest returns the digest of a request's parameters, for a Binding.
func Digest(params *strictjson.Object) [sha256.Size]byte {
	members := make([]strictjson.Member, 0, params.Len())
	for key, value := range params.All() {
		if key != retried[0] && key != retried[1] && key != retried[2] {
			members = append(members, strictjson.Member{Key: key, Value: value})
		}
	}
	return sha256.Sum256(strictjson.Canonical(nil, strictjson.NewObject(members...)))
}

type number [numberSize]byte

// A Sealer seals states. Its seals are good until it has forgotten them, and for
// no other Sealer. It is safe for concurrent use.
type Sealer struct {
	secret [sha256.Size]byte

	mu sync.Mutex
	// unspent are the numbers of the states that the agent may use, with what has
	// counted the call, and order is
	// them in a ring, the oldest at next once it is full.
	unspent map[number]pep.Counted
	order   []number
	next    int
}

// New returns a Sealer.
func New() *Sealer {
	s := &Sealer{unspent: make(map[number]pep.Counted)}
	_, _ = rand.Read(s.secret[:]) // never fails
	return s
}

// Seal returns state in a form that the agent can bring back, once. counted is
// what has counted the call.
func (s *Sealer) Seal(b Binding, state string, counted pep.Counted) string {
	var n number
	_, _ = rand.Read(n[:]) // never fails
	s.mu.Lock()
	s.keep(n, counted)
	s.mu.Unlock()
	head := append(n[:], s.mac(b, n, state)...)
	return base64.RawURLEncoding.EncodeToString(head) + "." + state
}

// Open returns the state that was sealed, and what to spend before it is used.
func (s *Sealer) Open(b Binding, sealed string) (state string, t *Ticket, err error) {
	head, state, ok := strings.Cut(sealed, ".")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(head)
	if !ok || err != nil || len(raw) != numberSize+macSize {
		return "", nil, ErrForeign
	}
	n := number(raw[:numberSize])
	if !hmac.Equal(raw[numberSize:], s.mac(b, n, state)) {
		return "", nil, ErrForeign
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	counted, ok := s.unspent[n]
	if !ok {
		return "", nil, ErrSpent
	}
	return state, &Ticket{counted, s, n}, nil
}

// A Ticket is the one use of a state. A nil Ticket needs nothing.
type Ticket struct {
	// Counted is what has counted the call that the state was given for.
	Counted pep.Counted

	sealer *Sealer
	number number
}

// Spend uses it up. It returns ErrSpent if somebody else has.
func (t *Ticket) Spend() error {
	if t == nil {
		return nil
	}
	t.sealer.mu.Lock()
	defer t.sealer.mu.Unlock()
	if _, ok := t.sealer.unspent[t.number]; !ok {
		return ErrSpent
	}
	delete(t.sealer.unspent, t.number)
	return nil
}

// Return makes a ticket good again that was spent on a request of which nothing
// has left.
func (t *Ticket) Return() {
	if t == nil {
		return
	}
	t.sealer.mu.Lock()
	defer t.sealer.mu.Unlock()
	t.sealer.keep(t.number, t.Counted)
}

// keep makes n one that may be used. s.mu must be held.
func (s *Sealer) keep(n number, counted pep.Counted) {
	if len(s.order) < maxOutstanding {
		s.order = append(s.order, n)
	} else {
		delete(s.unspent, s.order[s.next])
		s.order[s.next] = n
		s.next = (s.next + 1) % maxOutstanding
	}
	s.unspent[n] = counted
}

func (s *Sealer) mac(b Binding, n number, state string) []byte {
	h := hmac.New(sha256.New, s.secret[:])
	h.Write(n[:])
	h.Write(b.Params[:])
	for _, part := range [...]string{b.Server, b.Upstream, b.Session, b.Method, state} {
		h.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return h.Sum(nil)[:macSize]
}
