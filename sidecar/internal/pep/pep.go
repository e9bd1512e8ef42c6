// Package pep is the policy enforcement point: it asks for decisions, has them
// recorded before they are acted on, and takes back what it gave when the
// authority for it ends. It is the one place that fails closed.
package pep

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// expiryCheck is how often Run looks whether the grant of an open call has
// expired. What the control plane takes, and freshness that ends, is cut at
// once, by Recheck.
const expiryCheck = time.Second

// Views has the newest view of what this sidecar holds. It is called by many
// goroutines at once, for every call, and must return at once.
type Views interface {
	View() *replica.View
}

// Recorder keeps records. Its methods are called by many goroutines at once.
type Recorder interface {
	// Decide records a decision and returns its id. After an error, which the
	// recorder has logged, the call must not be forwarded.
	Decide(call pdp.Call, d pdp.Decision) (id string, err error)
	// End records how the call of the decision id came to an end. reason is for
	// WITHDRAWN and CUT: why the call was then denied; Granted for one that was
	// cut with another.
	End(id string, status decisionv1.Outcome_Status, took time.Duration, reason pdp.Reason)
}

// An Enforcer decides calls and watches over those that were allowed until
// they end. It is safe for concurrent use.
type Enforcer struct {
	views    Views
	recorder Recorder
	log      *slog.Logger
	metrics  *metrics
	// counts is nil without limits, see Limit; draw goes with it.
	counts Counts
	draw   func(ctx context.Context, w quota.Want) error
	usages sync.Pool // of *usage

	mu   sync.Mutex
	open map[*Permit]struct{}
}

// New returns an Enforcer. Its Recheck must be called whenever the view may
// have lost authority, and its Run must run while it is in use.
func New(views Views, recorder Recorder, log *slog.Logger, meter metric.Meter) (*Enforcer, error) {
	e := &Enforcer{views: views, recorder: recorder, log: log, open: make(map[*Permit]struct{})}
	m, err := newMetrics(meter, e.opened)
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	e.metrics = m
	return e, nil
}

// Authorize decides call, counts it against the limits that the decision rests on,
// and has the decision recorded. It always returns a permit, which says what was
// decided. A call for which nothing is left of a limit that sidecars share waits
// until more was drawn, for up to 2 s.
func (e *Enforcer) Authorize(ctx context.Context, call pdp.Call) *Permit {
	return e.authorize(ctx, &Permit{Call: call, enforcer: e})
}

// Continue is Authorize for what goes on of a call that was allowed before, such
// as a task that it began: it is decided and recorded as that call again, and not
// counted again.
func (e *Enforcer) Continue(ctx context.Context, call pdp.Call) *Permit {
	return e.authorize(ctx, &Permit{Call: call, continues: true, enforcer: e})
}

// Retry is Authorize for a call that was let through before and is made again,
// because it was not answered yet. It is not counted again where it was, and is
// where another grant allows it now.
func (e *Enforcer) Retry(ctx context.Context, call pdp.Call, before Counted) *Permit {
	return e.authorize(ctx, &Permit{Call: call, before: before, enforcer: e})
}

func (e *Enforcer) authorize(ctx context.Context, p *Permit) *Permit {
	began := time.Now()
	p.Decision = p.settle(ctx)
	e.record(p)
	e.metrics.decided(ctx, p.Decision.Reason, time.Since(began))
	return p
}

// Admit is Authorize for what the protocol itself needs and no grant speaks
// of: it allows anything to server while the sidecar may act at all, nothing is
// halted, the agent is active, the server is in the catalogue and session, by its
// id, goes on and is this sidecar's; empty is none. Nothing is recorded.
func (e *Enforcer) Admit(server, session string) *Permit {
	p := &Permit{Call: pdp.Call{Server: server, Session: session}, admitted: true, enforcer: e}
	p.Decision = p.decide(e.views.View())
	return p
}

// Refuse records that a front door denied call, for a reason of its own.
func (e *Enforcer) Refuse(ctx context.Context, call pdp.Call, reason pdp.Reason) *Permit {
	p := &Permit{Call: call, enforcer: e}
	p.Decision = pdp.Decision{Reason: reason, Revision: e.views.View().Snapshot.Revision()}
	e.record(p)
	e.metrics.decided(ctx, p.Decision.Reason, 0)
	return p
}

// decide decides by v at this moment.
func (p *Permit) decide(v *replica.View) pdp.Decision {
	at, _ := v.At()
	return p.decideAt(v, at)
}

// decideAt decides again. It fails closed: whatever it does not find, it denies,
// and at the age of what may not be acted on at all everything is stale.
func (p *Permit) decideAt(v *replica.View, at pdp.At) pdp.Decision {
	if p.admitted {
		return pdp.Admit(v.Snapshot, p.Call, at)
	}
	return p.again(v, at)
}

// record has the permit's decision recorded, or denies the call.
func (e *Enforcer) record(p *Permit) {
	id, err := e.recorder.Decide(p.Call, p.Decision)
	if err != nil {
		p.Decision.Allow, p.Decision.Reason = false, pdp.Unavailable
		p.giveBack()
		return
	}
	p.ID = id
}

// Visible returns a function that reports whether a thing on server may be
// listed to the agent, by what is held now, in the session of this id; empty is
// none.
func (e *Enforcer) Visible(server, session string) func(kind pdp.Kind, name string) bool {
	v := e.views.View()
	at, _ := v.At()
	c := pdp.Call{Server: server, Session: session}
	return func(kind pdp.Kind, name string) bool {
		c := c
		c.Kind, c.Name = kind, name
		return pdp.Visible(v.Snapshot, c, at)
	}
}

// Recheck decides every open permit again by v, and cuts those that are no
// longer allowed, by v nor by a newer view. When it returns, nothing that it cut
// is still being sent.
func (e *Enforcer) Recheck(v *replica.View) {
	var cut []*Permit
	for _, p := range e.permits() {
		if p.decide(v).Allow {
			continue
		}
		// A permit may rest on what came after v.
		if d := p.decide(e.views.View()); !d.Allow {
			p.cut(d)
			cut = append(cut, p)
		}
	}
	for _, p := range cut {
		<-p.sent
	}
	if len(cut) > 0 {
		e.log.Info("calls cut", slog.Int("calls", len(cut)), slog.Int64("revision", v.Snapshot.Revision()))
	}
}

// Run cuts what is open when its grant expires. It returns when ctx ends, and
// then cuts all that is open.
func (e *Enforcer) Run(ctx context.Context) error {
	ticker := time.NewTicker(expiryCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			e.Recheck(e.views.View())
		case <-ctx.Done():
			for _, p := range e.permits() {
				p.cut(pdp.Decision{})
			}
			return nil
		}
	}
}

// permits returns the open permits.
func (e *Enforcer) permits() []*Permit {
	e.mu.Lock()
	defer e.mu.Unlock()
	open := make([]*Permit, 0, len(e.open))
	for p := range e.open {
		open = append(open, p)
	}
	return open
}

// opened returns the number of open permits.
func (e *Enforcer) opened() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.open)
}
