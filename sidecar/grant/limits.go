package grant

import (
	"fmt"
	"slices"
	"time"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// What limits may name. MaxRateCalls is how many instants a sidecar keeps for
// one rate, since it counts exactly.
const (
	MaxCalls     = 1_000_000_000
	MaxRateCalls = 1000
	MinRatePer   = time.Second
	MaxRatePer   = 24 * time.Hour
)

const (
	maxUID      = 36
	maxPurposes = 32
	maxUsers    = 100
)

const malformedPurpose = "a purpose has up to 63 of a-z 0-9 . _ - and begins and ends with a letter or digit"

// A Scope is whose calls are counted together.
type Scope uint8

// The scopes.
const (
	// SidecarScope counts those through one sidecar.
	SidecarScope Scope = iota
	// AgentScope counts those of one agent, through whichever sidecar.
	AgentScope
	// AllScope counts those of all agents that the grant covers.
	AllScope
)

// Limits say how many calls may be allowed. The zero Limits say nothing.
type Limits struct {
	// MaxCalls is how many in all; 0 is no limit.
	MaxCalls int64
	// Rate is how many in any stretch of time, counted by each sidecar for
	// itself; the zero Rate is no limit.
	Rate Rate
	// Scope is whose calls count towards MaxCalls.
	Scope Scope
}

// A Rate is at most Calls calls in any stretch of time as long as Per.
type Rate struct {
	Calls int
	Per   time.Duration
}

// Any reports whether there is any limit.
func (l Limits) Any() bool { return l != Limits{} }

// parseLimits parses limits. None at all is the zero Limits.
func parseLimits(m *grantv1.Limits) (Limits, error) {
	if m == nil {
		return Limits{}, nil
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 || len(m.GetRate().ProtoReflect().GetUnknown()) > 0 {
		return Limits{}, fmt.Errorf("limits: %w: there is one that this version does not know", ErrInvalid)
	}
	l := Limits{MaxCalls: m.GetMaxCalls()}
	switch m.GetScope() {
	case grantv1.Limits_SCOPE_UNSPECIFIED, grantv1.Limits_SIDECAR:
	case grantv1.Limits_AGENT:
		l.Scope = AgentScope
	case grantv1.Limits_ALL:
		l.Scope = AllScope
	default:
		return Limits{}, fmt.Errorf("limits.scope: %w: want SIDECAR, AGENT or ALL", ErrInvalid)
	}
	switch {
	case l.MaxCalls < 0 || l.MaxCalls > MaxCalls:
		return Limits{}, fmt.Errorf("limits.max_calls: %w: %d is not from 1 to %d", ErrInvalid, l.MaxCalls, MaxCalls)
	case l.MaxCalls == 0 && m.GetRate() == nil:
		return Limits{}, fmt.Errorf("limits: %w: want max_calls, a rate, or both", ErrInvalid)
	case m.GetRate() == nil:
		return l, nil
	case l.Scope != SidecarScope:
		return Limits{}, fmt.Errorf("limits.rate: %w: each sidecar counts for itself; with this scope only max_calls can be kept", ErrInvalid)
	}
	var err error
	l.Rate, err = parseRate(m.GetRate())
	return l, err
}

func parseRate(m *grantv1.Rate) (Rate, error) {
	if m.GetCalls() < 1 || m.GetCalls() > MaxRateCalls {
		return Rate{}, fmt.Errorf("limits.rate.calls: %w: %d is not from 1 to %d", ErrInvalid, m.GetCalls(), MaxRateCalls)
	}
	if err := m.GetPer().CheckValid(); err != nil {
		return Rate{}, fmt.Errorf("limits.rate.per: %w: %w", ErrInvalid, err)
	}
	per := m.GetPer().AsDuration()
	if per < MinRatePer || per > MaxRatePer {
		return Rate{}, fmt.Errorf("limits.rate.per: %w: %s is not from %s to %s", ErrInvalid, per, MinRatePer, MaxRatePer)
	}
	return Rate{Calls: int(m.GetCalls()), Per: per}, nil
}

// parseLimits parses how often the grant may allow a call. What is counted is
// counted under the uid, which only the store makes: a grant that it has not
// written yet, of revision 0, has none.
func (g *Grant) parseLimits(m *grantv1.Grant) error {
	uid := m.GetUid()
	switch {
	case len(uid) > maxUID || !printable(uid):
		return fmt.Errorf("uid: %w: it has up to %d bytes of UTF-8 that can be printed", ErrInvalid, maxUID)
	case m.GetLimits() != nil && g.forbid:
		return fmt.Errorf("limits: %w: only an ALLOW has them; a FORBID is never used up", ErrInvalid)
	case m.GetLimits() != nil && g.revision > 0 && uid == "":
		return fmt.Errorf("uid: %w: the grant has limits and no uid to count under", ErrInvalid)
	}
	var err error
	g.source.limits, err = parseLimits(m.GetLimits())
	g.limited = g.source.limits.Any()
	return err
}

// UID returns the grant's incarnation; empty if the store has made none.
func (g *Grant) UID() string { return g.source.message.GetUid() }

// Limited reports whether the grant has Limits.
func (g *Grant) Limited() bool { return g.limited }

// Limits returns how often the grant may allow a call.
func (g *Grant) Limits() Limits { return g.source.limits }

// A requirement is what a session must be for a grant to apply in it.
type requirement struct {
	purposes, users     []string
	anyUser, selfOpened bool
}

// parseSession parses what session the grant applies in.
func (g *Grant) parseSession(m *grantv1.Grant) error {
	r := m.GetSession()
	switch {
	case r == nil:
		return nil
	case g.forbid:
		return fmt.Errorf("session: %w: only an ALLOW needs one; a FORBID applies in every session and in none", ErrInvalid)
	case len(r.ProtoReflect().GetUnknown()) > 0:
		return fmt.Errorf("session: %w: it requires something that this version does not know", ErrInvalid)
	case len(r.GetPurposes()) > maxPurposes:
		return fmt.Errorf("session.purposes: %w: %d purposes; at most %d are allowed", ErrInvalid, len(r.GetPurposes()), maxPurposes)
	case len(r.GetUsers()) > maxUsers:
		return fmt.Errorf("session.users: %w: %d users; at most %d are allowed", ErrInvalid, len(r.GetUsers()), maxUsers)
	case r.GetSelfOpened() && (r.GetAnyUser() || len(r.GetUsers()) > 0):
		return fmt.Errorf("session.self_opened: %w: a session that the agent opened is on behalf of nobody; ask for a user or allow self_opened, not both", ErrInvalid)
	}
	for i, p := range r.GetPurposes() {
		if !purposeWord.MatchString(p) {
			return fmt.Errorf("session.purposes[%d]: %w: %s", i, ErrInvalid, malformedPurpose)
		}
	}
	for i, u := range r.GetUsers() {
		if u == "" || len(u) > maxUser || !printable(u) {
			return fmt.Errorf("session.users[%d]: %w: a user has from 1 to %d bytes of UTF-8 that can be printed", i, ErrInvalid, maxUser)
		}
	}
	g.sessioned = true
	g.source.session = requirement{r.GetPurposes(), r.GetUsers(), r.GetAnyUser(), r.GetSelfOpened()}
	return nil
}

// NeedsSession reports whether the grant applies only in a session.
func (g *Grant) NeedsSession() bool { return g.sessioned }

// MetBy reports whether a call in s, nil for one in no session, is in the
// session that the grant needs. Whether s is over is not looked at.
func (g *Grant) MetBy(s *Session) bool {
	if !g.sessioned {
		return true
	}
	r := &g.source.session
	switch {
	case s == nil:
		return false
	case s.Origin() != grantv1.Session_ADMIN && !r.selfOpened:
		return false
	case len(r.purposes) > 0 && !slices.Contains(r.purposes, s.Purpose()):
		return false
	case r.anyUser && s.User() == "":
		return false
	default:
		return len(r.users) == 0 || slices.Contains(r.users, s.User())
	}
}
