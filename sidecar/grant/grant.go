// Package grant says what a grant means: how grants and what they speak of are
// parsed, whom they cover, and the immutable snapshot of what one agent holds.
// The control plane refuses with this code what sidecars would refuse with it.
package grant

import (
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/condition"
)

// ErrInvalid is wrapped by every error about a message's content, an invalid
// condition's included. The text begins with the field: `targets[1].tool: …`.
var ErrInvalid = condition.ErrInvalid

// An Entry is one of *Grant, *Agent, *Server, *Tool, *Session and *FleetState:
// parsed, immutable, safe for concurrent use.
type Entry interface {
	// Name returns the resource name.
	Name() string
	// Revision returns the store revision that wrote the entry, as passed to
	// the parser; 0 if it was not stored yet.
	Revision() int64
	// LogValue returns the entry as it is logged.
	LogValue() slog.Value

	key() string
}

// ParseEntry parses a *grantv1.Grant, Agent, Server, Tool, Session or FleetState
// that the store wrote at revision (0: not stored yet). Errors wrap ErrInvalid.
func ParseEntry(m proto.Message, revision int64) (Entry, error) {
	switch m := m.(type) {
	case *grantv1.Grant:
		return entryOf(ParseGrant(m, revision))
	case *grantv1.Agent:
		return entryOf(ParseAgent(m, revision))
	case *grantv1.Server:
		return entryOf(ParseServer(m, revision))
	case *grantv1.Tool:
		return entryOf(ParseTool(m, revision))
	case *grantv1.Session:
		return entryOf(ParseSession(m, revision))
	case *grantv1.FleetState:
		return entryOf(ParseFleetState(m, revision))
	default:
		return nil, fmt.Errorf("%w: a message of type %T is no entry", ErrInvalid, m)
	}
}

// entryOf keeps a nil pointer from becoming an Entry.
func entryOf[E Entry](e E, err error) (Entry, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}

// The freshness bound that a grant may name. A bound much shorter than a second
// would be missed by one slow answer; authority that outlives its revocation by
// more than a quarter of an hour is not fresh by anyone's measure.
const (
	MinFreshnessBound = time.Second
	MaxFreshnessBound = 15 * time.Minute
)

// A Grant allows or forbids its targets within a window of time, under an
// optional condition. Whom it covers is not part of it.
type Grant struct {
	// What deciding reads comes first, so that it shares a cache line. notBefore
	// and expire are in nanoseconds since 1970, held to what an int64 can say.
	notBefore, expire int64
	bound             time.Duration // of its own; 0 if it names none
	conditional       bool
	forbid            bool
	limited           bool // whether source.limits say anything
	sessioned         bool // whether source.session is to be met
	condition         condition.Condition
	name              string
	revision          int64
	source            *source
}

// source is what deciding does not read.
type source struct {
	targets []thing
	limits  Limits
	session requirement
	message *grantv1.Grant
}

// ParseGrant parses a grant as it is stored or as it is streamed. Subjects are
// not looked at: see ValidateSubjects. The message must not change afterwards.
func ParseGrant(m *grantv1.Grant, revision int64) (*Grant, error) {
	g := &Grant{name: m.GetName(), revision: revision, source: &source{message: m}, notBefore: math.MinInt64}
	if err := checkName(g.name, Grants); err != nil {
		return nil, err
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		return nil, fmt.Errorf("%w: the grant has a field that this version does not know; what it restricts cannot be told", ErrInvalid)
	}
	switch m.GetEffect() {
	case grantv1.Grant_ALLOW:
	case grantv1.Grant_FORBID:
		g.forbid = true
	default:
		return nil, fmt.Errorf("effect: %w: want ALLOW or FORBID", ErrInvalid)
	}
	var err error
	if g.source.targets, err = parseTargets(m.GetTargets()); err != nil {
		return nil, err
	}
	if err := g.parseWindow(m); err != nil {
		return nil, err
	}
	if g.bound, err = parseBound(m); err != nil {
		return nil, err
	}
	if err := g.parseLimits(m); err != nil {
		return nil, err
	}
	if err := g.parseSession(m); err != nil {
		return nil, err
	}
	if expr := m.GetCondition(); expr != "" {
		if g.condition, err = compile(expr); err != nil {
			return nil, err
		}
		g.conditional = true
	}
	return g, nil
}

// compiler is shared by the whole process, since templates are worth sharing
// and hold nothing of anyone's.
var compiler = sync.OnceValues(condition.NewCompiler)

func compile(expr string) (condition.Condition, error) {
	c, err := compiler()
	if err != nil {
		return condition.Condition{}, err
	}
	cond, err := c.Compile(expr)
	if err != nil {
		return condition.Condition{}, fmt.Errorf("condition: %w", err)
	}
	return cond, nil
}

func (g *Grant) parseWindow(m *grantv1.Grant) error {
	if m.GetExpireTime() == nil {
		return fmt.Errorf("expire_time: %w: a grant must expire; set the instant from which it no longer applies", ErrInvalid)
	}
	if err := m.GetExpireTime().CheckValid(); err != nil {
		return fmt.Errorf("expire_time: %w: %w", ErrInvalid, err)
	}
	g.expire = nanoseconds(m.GetExpireTime())
	if m.GetNotBefore() == nil {
		return nil
	}
	if err := m.GetNotBefore().CheckValid(); err != nil {
		return fmt.Errorf("not_before: %w: %w", ErrInvalid, err)
	}
	g.notBefore = nanoseconds(m.GetNotBefore())
	if g.notBefore >= g.expire {
		return fmt.Errorf("not_before: %w: the grant would expire before it applies", ErrInvalid)
	}
	return nil
}

// parseBound returns the grant's own freshness bound; 0 if it names none.
func parseBound(m *grantv1.Grant) (time.Duration, error) {
	d := m.GetFreshnessBound()
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, fmt.Errorf("freshness_bound: %w: %w", ErrInvalid, err)
	}
	bound := d.AsDuration()
	switch {
	case m.GetEffect() != grantv1.Grant_ALLOW:
		return 0, fmt.Errorf("freshness_bound: %w: only an ALLOW has one; a FORBID is never stale", ErrInvalid)
	case bound < MinFreshnessBound || bound > MaxFreshnessBound:
		return 0, fmt.Errorf("freshness_bound: %w: %s is not from %s to %s", ErrInvalid, bound, MinFreshnessBound, MaxFreshnessBound)
	}
	return bound, nil
}

func nanoseconds(t *timestamppb.Timestamp) int64 { return Instant(t.AsTime()) }

// Instant returns t in nanoseconds since 1970, held to what an int64 can say.
func Instant(t time.Time) int64 {
	switch s := t.Unix(); {
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	case s <= math.MinInt64/int64(time.Second):
		return math.MinInt64
	default:
		return s*int64(time.Second) + int64(t.Nanosecond())
	}
}

// Name returns the resource name.
func (g *Grant) Name() string { return g.name }

// Revision returns the revision that wrote the grant.
func (g *Grant) Revision() int64 { return g.revision }

// Message returns what was parsed. It must not be changed.
func (g *Grant) Message() *grantv1.Grant { return g.source.message }

// Forbids reports whether the grant takes authority away.
func (g *Grant) Forbids() bool { return g.forbid }

// Begun reports whether the grant applies already at an Instant.
func (g *Grant) Begun(at int64) bool { return g.notBefore <= at }

// Expired reports whether the grant no longer applies at an Instant.
func (g *Grant) Expired(at int64) bool { return at >= g.expire }

// FreshnessBound returns how long the grant may be acted on without hearing from
// the control plane; 0 if it names no bound of its own.
func (g *Grant) FreshnessBound() time.Duration { return g.bound }

// Condition returns the condition; nil if the grant always applies.
func (g *Grant) Condition() *condition.Condition {
	if !g.conditional {
		return nil
	}
	return &g.condition
}

// LogValue returns the grant as it is logged.
func (g *Grant) LogValue() slog.Value {
	return slog.GroupValue(slog.String("name", g.name), slog.Int64("revision", g.revision))
}

func (g *Grant) key() string { return g.name }

// Project returns the part of a stored grant that is streamed. It shares what
// it keeps with g, and names nobody whom the grant is for.
func Project(g *grantv1.Grant) *grantv1.Grant {
	return &grantv1.Grant{
		Name:       g.GetName(),
		Effect:     g.GetEffect(),
		Targets:    g.GetTargets(),
		Condition:  g.GetCondition(),
		NotBefore:  g.GetNotBefore(),
		ExpireTime: g.GetExpireTime(),

		FreshnessBound: g.GetFreshnessBound(),

		Limits:  g.GetLimits(),
		Session: g.GetSession(),
		Uid:     g.GetUid(),
	}
}
