// Package pep is the policy enforcement point: it asks for decisions, has them
// recorded before they are acted on, and takes back what it gave when the
// authority for it ends. It is the one place that fails closed.
package pep

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// Replica is what this sidecar holds. Its methods are called by many
// goroutines at once, for every call, and must return at once.
type Replica interface {
	// View returns what is held, and for how much longer it may be acted on:
	// not at all unless that is positive.
	View() (held *grant.Snapshot, fresh time.Duration)
	// Now returns the time that expiries are compared with.
	Now() time.Time
}

// Recorder keeps records. Its methods are called by many goroutines at once.
type Recorder interface {
	// Decide records a decision and returns its id. After an error the call
	// must not be forwarded.
	Decide(call pdp.Call, d pdp.Decision) (id string, err error)
	// End records how the call of the decision id came to an end. reason is for
	// WITHDRAWN.
	End(id string, status decisionv1.Outcome_Status, took time.Duration, reason pdp.Reason)
}

// An Enforcer decides calls and watches over those that were allowed until
// they end. It is safe for concurrent use.
type Enforcer struct {
	replica  Replica
	recorder Recorder
	log      *slog.Logger

	mu   sync.Mutex
	open map[*Permit]struct{}
}

// New returns an Enforcer. Its Recheck must be called whenever what the
// replica holds has changed, and its Run must run while it is in use.
func New(replica Replica, recorder Recorder, log *slog.Logger, meter metric.Meter) (*Enforcer, error) {
	return &Enforcer{replica: replica, recorder: recorder, log: log, open: make(map[*Permit]struct{})}, nil
}

// Authorize decides call and has the decision recorded. It always returns a
// permit, which says what was decided; whether or not it allows the call, its
// End must be called.
func (e *Enforcer) Authorize(ctx context.Context, call pdp.Call) *Permit {
	return &Permit{Call: call}
}

// Admit is Authorize for what the protocol itself needs and no grant speaks
// of: it allows anything to server while the sidecar may act at all, the agent
// is active and the server is in the catalogue. Nothing is recorded.
func (e *Enforcer) Admit(ctx context.Context, server string) *Permit {
	return &Permit{Call: pdp.Call{Server: server}}
}

// Refuse records that a call was denied for reason by a front door, which
// could not or would not put it to the question.
func (e *Enforcer) Refuse(ctx context.Context, call pdp.Call, reason pdp.Reason) *Permit {
	return &Permit{Call: call, Decision: pdp.Decision{Reason: reason}}
}

// Recheck decides every open permit again by what the replica holds now, and
// cuts those that are no longer allowed. When it returns, nothing that it cut
// is still being sent.
func (e *Enforcer) Recheck() {}

// Run cuts what is open when freshness lapses. It returns when ctx ends, and
// cuts everything that is then open.
func (e *Enforcer) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// A Permit is the answer to one call, and while it allows the call, the handle
// by which it can be taken back. Its fields do not change.
type Permit struct {
	// Call is what was decided.
	Call pdp.Call
	// Decision is the answer.
	Decision pdp.Decision
	// ID is the id of the decision's record; empty if there is none.
	ID string
}

// Forward runs send, which puts the call on the wire and returns when it is
// there, unless the call is by now not allowed any more: then it returns the
// decision that says so, and the call is recorded as withdrawn. The context
// that send is given, and that whatever answers the call must be read under,
// ends when the permit is cut, with a *Cut as its cause, and when End is
// called.
func (p *Permit) Forward(send func(ctx context.Context)) pdp.Decision {
	return p.Decision
}

// End says how the call came to an end. Only the first End counts.
func (p *Permit) End(status decisionv1.Outcome_Status) {}

// A Cut is the cause with which the context of a permit ends when its
// authority is taken.
type Cut struct {
	// Decision is what the call would now be answered.
	Decision pdp.Decision
}

// Error returns "cut: <reason>".
func (c *Cut) Error() string { return "cut: " + c.Decision.Reason.String() }
