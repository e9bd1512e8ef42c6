// Package pdp is the policy decision point: whether a call may be made, and on
// what authority. It is a pure function of what the agent holds, what it wants
// and what time it is.
package pdp

import (
	"log/slog"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// A Kind is a kind of thing that can be called.
type Kind = grant.Kind

// The kinds.
const (
	Tool     = grant.ToolKind
	Resource = grant.ResourceKind
	Prompt   = grant.PromptKind
	Method   = grant.MethodKind
)

// A Call is one attempt to use something on a server of the catalogue.
type Call struct {
	Kind Kind
	// Server is the id of the server.
	Server string
	// Name is the server's own name for the thing: a tool's or prompt's name, a
	// resource's URI, or a method.
	Name string
	// Args are the arguments; nil is none.
	Args *strictjson.Object
	// Session is the id of the agent's session that the call is made in; empty
	// for none.
	Session string
}

// A Decision is the answer to a call. The zero Decision denies, as stale.
type Decision struct {
	// Allow is whether the call may be made.
	Allow bool
	// Reason is why.
	Reason Reason
	// Grant is the resource name of the grant that settled it; empty if none
	// did.
	Grant string
	// GrantRevision is the revision that wrote that grant.
	GrantRevision int64
	// Session is the resource name of the session that the call is made in; empty
	// if in none, or in one that is not the agent's.
	Session string
	// Revision is the revision of the snapshot that was decided on.
	Revision int64
}

// LogValue returns the decision as it is logged.
func (d Decision) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Bool("allow", d.Allow),
		slog.String("reason", d.Reason.String()),
		slog.String("grant", d.Grant),
		slog.Int64("revision", d.Revision),
	)
}

// A Finding is what one grant that covers the target said to a call.
type Finding struct {
	Grant *grant.Grant
	// Applies is whether the grant had a say: an allow that allows, a forbid
	// that forbids.
	Applies bool
	// Reason is granted or forbidden if it applies, and otherwise why not:
	// expired, not_yet_valid, session_required, condition_false, limit_reached,
	// rate_limited, unavailable or stale.
	Reason Reason
	// Detail is the evaluation error of the condition, if there was one.
	Detail string
}

// An At is the moment that a decision is for.
type At struct {
	// Now is what expiries are held against.
	Now time.Time
	// Age is how long ago the sidecar asked what the control plane answered
	// last; 0 is as fresh as can be.
	Age time.Duration
	// Bound is the age at which a grant that names no bound of its own is stale.
	Bound time.Duration
	// Longest is the age at which every grant is stale, whatever bound it names;
	// 0 is never.
	Longest time.Duration
	// Usage knows what is used up; nil is nothing. It is asked only about grants
	// and sessions that have limits.
	Usage Usage
}

// Usage knows which limits are used up at the moment of a decision. What it
// answers for one moment must not change while that decision is made. Its
// answers are Granted if one more call may be allowed, LimitReached or
// RateLimited if not, and Unavailable if that cannot be known.
type Usage interface {
	// Grant says whether g may allow one more call. g must not be kept.
	Grant(g *grant.Grant) Reason
	// Session says whether one more call may be made in s.
	Session(s *grant.Session) Reason
}

// fresh reports whether what has this bound may be acted on at this age.
func fresh(age, bound time.Duration) bool { return age < bound || age <= 0 }

// Decide decides a call by what s holds. A forbid that applies beats every
// allow; of several grants that settle it alike the one that names the target
// most exactly does, and of those the first by name.
// An allow whose bound is not longer than the age does not apply, and if the
// call would be allowed without that it is denied as stale. A forbid is never
// stale. When every bound or at.Longest has passed, every call is denied as stale.
// A resource whose URI has a grant.URIProblem is denied as malformed.
//
// A call that names a session which the agent does not have or which is over is
// denied as session_ended, and one that another sidecar has claimed, or none, as
// session_claimed. An allow that needs a session applies only in one that meets
// it, and one whose limits are used up not at all. What is allowed is denied all
// the same if the tool is pinned and the arguments do not satisfy its schema, as
// arguments_invalid, or if the session's own limits are used up.
func Decide(s *grant.Snapshot, c Call, at At) Decision {
	e := evaluators.Get().(*evaluation)
	d := e.decide(s, c, &at)
	e.release()
	return d
}

// Explain decides as Decide does, and returns what each grant that covers the
// target said, by grant name; nothing if no grant was asked.
func Explain(s *grant.Snapshot, c Call, at At) (Decision, []Finding) {
	e := evaluators.Get().(*evaluation)
	defer e.release()
	return e.decide(s, c, &at), e.findings()
}

// Visible reports whether the thing that c names may be listed to the agent in
// the session that c names: some allow in its window, within its bound and in
// the session that it needs covers it, whatever its condition and its limits,
// and no forbid in its window covers it unconditionally. Arguments are not
// looked at.
func Visible(s *grant.Snapshot, c Call, at At) bool {
	e := evaluators.Get().(*evaluation)
	defer e.release()
	return e.begin(s, c, &at) == Granted && e.visible()
}

// Admit decides what the protocol itself needs and no grant speaks of: anything
// is allowed to a server of the catalogue while the agent may act at all and, if
// c names a session, in that. Nothing else of c is looked at.
func Admit(s *grant.Snapshot, c Call, at At) Decision {
	session, reason := within(s, c, &at, grant.Instant(at.Now))
	d := Decision{Reason: reason, Revision: s.Revision()}
	if session != nil {
		d.Session = session.Name()
	}
	switch {
	case d.Reason != Granted:
	case s.Server(c.Server) == nil:
		d.Reason = UnknownServer
	default:
		d.Allow = true
	}
	return d
}
