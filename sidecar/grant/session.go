package grant

import (
	"fmt"
	"hash/maphash"
	"iter"
	"log/slog"
	"regexp"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/condition"
)

const maxUser = 254

var purposeWord = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

// The words of a session's origin, as conditions compare them.
var origins = map[grantv1.Session_Origin]string{
	grantv1.Session_ADMIN: "admin", grantv1.Session_AGENT: "agent",
}

// A Session is one bounded run of an agent.
type Session struct {
	name      string
	id        string
	agent     string // the resource name of its agent
	revision  int64
	expire    int64 // as an Instant
	limits    Limits
	message   *grantv1.Session
	variables condition.Session
}

// ParseSession parses a session as it is stored or as it is streamed. The
// message must not change afterwards.
func ParseSession(m *grantv1.Session, revision int64) (*Session, error) {
	if err := checkName(m.GetName(), Sessions); err != nil {
		return nil, err
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		return nil, fmt.Errorf("%w: the session has a field that this version does not know; what it restricts cannot be told", ErrInvalid)
	}
	origin, ok := origins[m.GetOrigin()]
	user, purpose := m.GetUser(), m.GetPurpose()
	switch {
	case !ok:
		return nil, fmt.Errorf("origin: %w: want ADMIN or AGENT", ErrInvalid)
	case len(user) > maxUser || !printable(user):
		return nil, fmt.Errorf("user: %w: a user has up to %d bytes of UTF-8 that can be printed", ErrInvalid, maxUser)
	case user != "" && m.GetOrigin() == grantv1.Session_AGENT:
		return nil, fmt.Errorf("user: %w: a session that the agent opened is on behalf of nobody", ErrInvalid)
	case purpose != "" && !purposeWord.MatchString(purpose):
		return nil, fmt.Errorf("purpose: %w: %s", ErrInvalid, malformedPurpose)
	case m.GetClaimant() != "" && !digestWord.MatchString(m.GetClaimant()):
		return nil, fmt.Errorf("claimant: %w: %s", ErrInvalid, malformedDigest)
	case m.GetExpireTime() == nil:
		return nil, fmt.Errorf("expire_time: %w: a session must expire; set the instant from which it is over", ErrInvalid)
	case m.GetLimits().GetScope() != grantv1.Limits_SCOPE_UNSPECIFIED:
		return nil, fmt.Errorf("limits.scope: %w: a session is one sidecar's; leave it unset", ErrInvalid)
	}
	if err := m.GetExpireTime().CheckValid(); err != nil {
		return nil, fmt.Errorf("expire_time: %w: %w", ErrInvalid, err)
	}
	limits, err := parseLimits(m.GetLimits())
	if err != nil {
		return nil, err
	}
	n, err := ParseName(m.GetName())
	if err != nil {
		return nil, err
	}
	return &Session{
		name:      m.GetName(),
		id:        n.ID,
		agent:     AgentName(n.Namespace, n.Agent),
		revision:  revision,
		expire:    nanoseconds(m.GetExpireTime()),
		limits:    limits,
		message:   m,
		variables: condition.NewSession(n.ID, purpose, origin, user),
	}, nil
}

// Name returns the resource name.
func (s *Session) Name() string { return s.name }

// Revision returns the revision that wrote the session.
func (s *Session) Revision() int64 { return s.revision }

// Message returns what was parsed. It must not be changed.
func (s *Session) Message() *grantv1.Session { return s.message }

// ID returns the last part of the resource name.
func (s *Session) ID() string { return s.id }

// Agent returns the resource name of the session's agent.
func (s *Session) Agent() string { return s.agent }

// User returns on behalf of whom the session is; empty if of nobody.
func (s *Session) User() string { return s.message.GetUser() }

// Purpose returns what the session is for; empty if for nothing in particular.
func (s *Session) Purpose() string { return s.message.GetPurpose() }

// Origin returns who opened the session.
func (s *Session) Origin() grantv1.Session_Origin { return s.message.GetOrigin() }

// Claimant returns which sidecar the session is used through, by the digest of
// its key; empty if none has claimed it.
func (s *Session) Claimant() string { return s.message.GetClaimant() }

// Expired reports whether the session is over at an Instant.
func (s *Session) Expired(at int64) bool { return at >= s.expire }

// Limits returns how many calls may be made in the session.
func (s *Session) Limits() Limits { return s.limits }

// Variables returns what conditions read of the session.
func (s *Session) Variables() *condition.Session { return &s.variables }

// LogValue returns the session as it is logged.
func (s *Session) LogValue() slog.Value { return logValue(s) }

func (s *Session) key() string { return s.name }

// ProjectSession returns the part of a stored session that is streamed. It
// shares what it keeps with s.
func ProjectSession(s *grantv1.Session) *grantv1.Session {
	return &grantv1.Session{
		Name:       s.GetName(),
		CreateTime: s.GetCreateTime(),
		AgentUid:   s.GetAgentUid(),
		Origin:     s.GetOrigin(),
		User:       s.GetUser(),
		Purpose:    s.GetPurpose(),
		ExpireTime: s.GetExpireTime(),
		Limits:     s.GetLimits(),
		Claimant:   s.GetClaimant(),
	}
}

// A running is a session, found by whose it is and its id.
type running Session

type sessionKey struct{ agent, id string }

func (k sessionKey) hash() uint64 { return maphash.String(seed, k.id) }

func (r *running) key() sessionKey { return sessionKey{r.agent, r.id} }

// Session returns the session of the snapshot's own agent with this id; nil if
// there is none. Whether it is over, or another sidecar's, is not looked at.
func (s *Snapshot) Session(id string) *Session {
	if s.agent == nil {
		return nil
	}
	k := sessionKey{s.agent.name, id}
	r := s.sessions.get(k.hash(), k)
	if r == nil || r.message.GetAgentUid() != s.agent.message.GetUid() {
		return nil
	}
	return (*Session)(r)
}

// Sessions returns the sessions of the snapshot's own agent, in no order. Whether
// they are over, or another sidecar's, is not looked at.
func (s *Snapshot) Sessions() iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		s.sessions.root.all(func(r *running) bool { return s.Session(r.id) != (*Session)(r) || yield((*Session)(r)) })
	}
}

// As returns the snapshot as the sidecar holds it that claims sessions under
// this name: "sha256:" and the digest of its enrolled key. What Apply makes of
// it is the same sidecar's.
func (s *Snapshot) As(claimant string) *Snapshot {
	next := *s
	next.claimant = claimant
	return &next
}

// Claimant returns whose snapshot it is, as given to As; empty if that is not
// known, and then no session is its own.
func (s *Snapshot) Claimant() string { return s.claimant }
