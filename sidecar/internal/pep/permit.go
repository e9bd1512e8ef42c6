package pep

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/fault"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// A Permit is the answer to one call and, while that allows the call, the
// handle by which it can be taken back. Forward, Withdraw and End are for one
// goroutine at a time.
type Permit struct {
	// Call is what was decided.
	Call pdp.Call
	// Decision is the answer.
	Decision pdp.Decision
	// ID is the id of the decision's record; empty if there is none.
	ID string

	enforcer *Enforcer
	// admitted is set if the call needs no grant.
	admitted bool
	// continues is set if the call was counted when it was allowed before.
	continues bool
	// before is what had counted the call when it was let through before.
	before Counted
	began  time.Time
	// cancel ends the context of the call. It is set before the permit is open.
	cancel context.CancelCauseFunc
	// sent is closed when the call is not being sent any more. It is set before
	// the permit is open, and Forward alone closes it.
	sent chan struct{}
	// taken is set when the permit has been cut, once.
	taken atomic.Pointer[CutError]

	// settling is held while the call is counted once more.
	settling sync.Mutex
	// counting guards receipts, of what has counted the call, and returned, that
	// they were given back.
	counting sync.Mutex
	receipts []quota.Receipt
	returned bool
}

// A CutError is the cause with which the context of a permit ends when its
// authority is taken.
type CutError struct {
	// Decision is how the call would now be answered.
	Decision pdp.Decision
}

// Error returns "cut: <reason>".
func (c *CutError) Error() string { return "cut: " + c.Decision.Reason.String() }

// Forward runs send, which puts the call on the wire to the server it is given
// and returns when it is there, if the call is still allowed. If it no longer
// is, the call is recorded as withdrawn and ok is false: Decision then says
// why.
//
// Between here and the first byte send may have to wait, for a connection above
// all, so it must call Recheck directly before each byte that it writes. It
// reports whether any may have left; if none has and the permit was cut
// meanwhile, the call is withdrawn as well.
//
// The context that send is given ends when the permit is cut, with a *CutError as
// its cause, and when End is called. What comes back must be read under it.
// send must return soon after its context has ended. After a Forward that was
// ok, End must be called.
func (p *Permit) Forward(ctx context.Context, send func(ctx context.Context, server *grant.Server) (begun bool)) (ok bool) {
	if !p.Decision.Allow {
		return false
	}
	ctx, p.cancel = context.WithCancelCause(ctx)
	p.began = time.Now()
	p.sent = make(chan struct{})
	defer close(p.sent)

	fault.Stall(fault.Forwarding)
	// Open first, then look again: whoever publishes a new view after this
	// finds the permit open, and what was published before this is seen here.
	p.open()
	d, server := p.look()
	if !d.Allow {
		p.Withdraw(ctx, d)
		return false
	}
	if send(ctx, server) {
		return true
	}
	if d, taken := p.Taken(); taken {
		p.Withdraw(ctx, d)
		return false
	}
	p.giveBack() // nothing of the call has left
	return true
}

// Recheck decides a call that is being forwarded again, by what is held at this
// moment, and cuts the permit if it is not allowed any more. It returns nil, or
// the *CutError of a permit that is cut. It does not block, and may be called at
// any time while Forward runs and after.
func (p *Permit) Recheck() error {
	if c := p.taken.Load(); c != nil {
		return c
	}
	d, _ := p.look()
	if d.Allow {
		return nil
	}
	p.cut(d)
	return p.taken.Load()
}

// look decides by what is held at this moment and returns the server to forward
// to, if there is one. To decide takes a moment: if the view changed or a bound
// passed meanwhile, it decides again.
func (p *Permit) look() (d pdp.Decision, server *grant.Server) {
	v := p.enforcer.views.View()
	at, _ := v.At()
	for {
		d, server = p.lookAt(v, at)
		newest := p.enforcer.views.View()
		now, _ := newest.At()
		if !d.Allow || newest == v && !newest.Passed(at.Age, now.Age) {
			return d, server
		}
		v, at = newest, now
	}
}

func (p *Permit) lookAt(v *replica.View, at pdp.At) (pdp.Decision, *grant.Server) {
	d := p.Decision
	if !fault.Off(fault.Recheck) {
		d = p.decideAt(v, at)
	}
	server := v.Snapshot.Server(p.Call.Server)
	if d.Allow && server == nil {
		d.Allow, d.Reason = false, pdp.UnknownServer
	}
	return d, server
}

// Taken returns how the call would now be answered, if the permit was cut.
// Unlike the other methods it may be called at any time.
func (p *Permit) Taken() (d pdp.Decision, taken bool) {
	if c := p.taken.Load(); c != nil {
		return c.Decision, true
	}
	return pdp.Decision{}, false
}

// Withdraw says that nothing of an allowed call has been forwarded and nothing
// will be, for the reason of d.
func (p *Permit) Withdraw(ctx context.Context, d pdp.Decision) {
	allowed := p.Decision.Allow
	p.Decision = d
	defer p.giveBack()
	switch {
	case p.cancel != nil:
		p.finish(ctx, decisionv1.Outcome_WITHDRAWN)
	case allowed && p.ID != "":
		p.enforcer.metrics.ended(ctx, decisionv1.Outcome_WITHDRAWN)
		p.enforcer.recorder.End(p.ID, decisionv1.Outcome_WITHDRAWN, 0, d.Reason)
	}
}

// End says how a call that was forwarded came to an end. Only the first End
// counts, and a permit that was never forwarded has none.
func (p *Permit) End(ctx context.Context, status decisionv1.Outcome_Status) {
	if p.cancel != nil {
		p.finish(ctx, status)
	}
}

// cut takes the permit back. Only the first cut counts.
func (p *Permit) cut(d pdp.Decision) {
	if c := (&CutError{Decision: d}); p.taken.CompareAndSwap(nil, c) {
		p.cancel(c)
	}
}

func (p *Permit) open() {
	e := p.enforcer
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open[p] = struct{}{}
}

// finish closes the permit and records how it ended.
func (p *Permit) finish(ctx context.Context, status decisionv1.Outcome_Status) {
	e := p.enforcer
	e.mu.Lock()
	_, open := e.open[p]
	delete(e.open, p)
	e.mu.Unlock()
	if !open {
		return
	}
	p.cancel(nil)
	if p.ID == "" {
		return // what was only admitted leaves no record
	}
	took, reason := time.Since(p.began), pdp.Granted
	switch d, taken := p.Taken(); {
	case status == decisionv1.Outcome_WITHDRAWN:
		took, reason = 0, p.Decision.Reason
	case status == decisionv1.Outcome_CUT && taken:
		reason = d.Reason
	}
	e.metrics.ended(ctx, status)
	e.recorder.End(p.ID, status, took, reason)
}
