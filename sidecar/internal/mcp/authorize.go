package mcp

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/own"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/pin"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/rule"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/state"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/wire"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// HeaderSession is the header by which a request names the agent's session that
// it is made in.
const HeaderSession = "Reeve-Session"

// readSession takes note of the agent's session that the request names, and
// refuses a name that is none.
func (x *exchange) readSession() *refusal {
	values := x.r.Header[HeaderSession]
	if len(values) == 0 {
		return nil
	}
	if len(values) > 1 || !isID(values[0]) {
		return &refusal{
			status: http.StatusBadRequest, code: message.CodeInvalidRequest,
			message: HeaderSession + " must be the id of one session, such as the sidecar answered when it was opened.",
		}
	}
	x.session = values[0]
	return nil
}

// isID reports whether s can be the last part of a session's resource name.
func isID(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case c == '-' && 0 < i && i < len(s)-1:
		default:
			return false
		}
	}
	return 0 < len(s) && len(s) <= 63
}

// place is where the exchange's calls are made.
func (x *exchange) place() rule.Place {
	return rule.Place{
		Server: x.server, Session: x.session,
		Began: func(task string) (pdp.Call, bool) { return x.h.tasks.Began(x.server, task) },
	}
}

// authorize has everything decided that the exchange needs.
func (x *exchange) authorize(ctx context.Context) *refusal {
	if x.session != "" && x.h.config.Claims != nil {
		x.h.config.Claims.Ensure(ctx, x.session)
	}
	x.permits = x.permits[:0]
	if len(x.origin.Calls) == 0 {
		p := x.h.config.Enforcer.Admit(x.server, x.session)
		x.permits = append(x.permits, p)
		if !p.Decision.Allow {
			return x.denied(p, p.Decision)
		}
	}
	for _, c := range x.origin.Calls {
		if refused := x.checkPin(ctx, c); refused != nil {
			x.withdraw(ctx, pdp.Decision{Reason: pdp.DefinitionChanged})
			return refused
		}
		p := x.decide(ctx, c)
		if !p.Decision.Allow {
			x.withdraw(ctx, p.Decision)
			return x.denied(p, p.Decision)
		}
		x.permits = append(x.permits, p)
	}
	return nil
}

// decide has a call of the exchange decided. What only goes on of an earlier call
// is not counted again, and what is that call again, only elsewhere.
func (x *exchange) decide(ctx context.Context, c pdp.Call) *pep.Permit {
	switch {
	case x.r.Method == http.MethodGet || x.continues(c): // a GET that has a call resumes its answer
		return x.h.config.Enforcer.Continue(ctx, c)
	case x.ticket != nil:
		return x.h.config.Enforcer.Retry(ctx, c, x.ticket.Counted)
	default:
		return x.h.config.Enforcer.Authorize(ctx, c)
	}
}

// continues reports whether a call of the exchange is the one that began a task
// that the message is about. What speaks of a task itself names a method.
func (x *exchange) continues(c pdp.Call) bool {
	if x.origin.Rule.Task {
		return c.Kind != pdp.Method || c.Name != x.origin.Method
	}
	return x.origin.Method == rule.Listen && c.Kind != pdp.Resource && c.Name != "tasks/get"
}

// counted returns what has counted the calls of the exchange.
func (x *exchange) counted() pep.Counted {
	all := x.origin.Counted
	for _, p := range x.permits {
		all = append(slices.Clip(all), p.Counted()...)
	}
	return all
}

// withdraw gives back what was allowed of a message that will not be sent.
func (x *exchange) withdraw(ctx context.Context, d pdp.Decision) {
	for _, p := range x.permits {
		p.Withdraw(ctx, d)
	}
}

// checkPin refuses a call of a pinned tool that the server does not list as it was
// accepted. Of a tool that is not pinned, or that is denied anyway, the server is
// not asked; if that changes before the call has left, it does not leave.
func (x *exchange) checkPin(ctx context.Context, c pdp.Call) *refusal {
	if c.Kind != pdp.Tool || x.origin.Rule.Kind != pdp.Tool {
		return nil
	}
	x.pinned = pinned{views: x.h.config.Views, server: c.Server, tool: c.Name}
	v := x.h.config.Views.View()
	tool := v.Snapshot.Tool(c.Server, c.Name)
	if tool == nil || !tool.Pinned() {
		return nil
	}
	at, _ := v.At()
	if !pdp.Visible(v.Snapshot, c, at) {
		return nil
	}
	err := x.h.lists.Check(ctx, x.list(), c.Name, tool.Digest(), at.Bound)
	if err == nil {
		x.pinned.digest = tool.Digest()
		return nil
	}
	if errors.Is(err, pin.ErrChanged) {
		p := x.h.config.Enforcer.Refuse(ctx, c, pdp.DefinitionChanged)
		return x.denied(p, p.Decision)
	}
	x.unchecked(ctx, err)
	p := x.h.config.Enforcer.Refuse(ctx, c, pdp.Unavailable)
	refused := x.denied(p, p.Decision)
	refused.message = "Denied: server " + strconv.Quote(x.server) + " could not be asked whether the tool is still the one that was accepted. Retry later."
	return refused
}

// list is where the server lists what the agent of this exchange would be shown.
func (x *exchange) list() own.Place {
	version := x.r.Header.Get(message.HeaderVersion)
	if len(version) > len(message.Stateless) {
		version = "" // none that there is
	}
	return own.Place{Server: x.server, Session: x.key.ID, Version: version}
}

// A pinned allows a call of a tool for as long as the definition that was accepted
// of it is the one that its server's list was held against, or while none was. The
// zero pinned is of no tool.
type pinned struct {
	views        pep.Views
	server, tool string
	// digest is of the definition; empty if the server was not asked.
	digest string
}

var errRepinned = errors.New("another definition was accepted meanwhile")

// Recheck implements [wire.Permit].
func (p *pinned) Recheck() error {
	if t := p.views.View().Snapshot.Tool(p.server, p.tool); t == nil || t.Digest() != p.digest {
		return errRepinned
	}
	return nil
}

// under runs send under all the permits. It returns the one that was found
// withdrawn, or nil.
func (x *exchange) under(ctx context.Context, permits []*pep.Permit, send func(context.Context, *grant.Server) (begun bool)) (withdrawn *pep.Permit) {
	p, rest := permits[0], permits[1:]
	begun := false
	sent := func(ctx context.Context, server *grant.Server) bool {
		begun = send(ctx, server)
		return begun
	}
	ok := p.Forward(ctx, func(ctx context.Context, server *grant.Server) bool {
		if len(rest) == 0 {
			return sent(ctx, server)
		}
		withdrawn = x.under(ctx, rest, sent)
		return begun
	})
	if !ok {
		for _, other := range rest {
			other.Withdraw(ctx, p.Decision)
		}
		return p
	}
	if withdrawn != nil {
		p.Withdraw(ctx, withdrawn.Decision)
	}
	return withdrawn
}

// needed returns what must hold when the message is written.
func (x *exchange) needed() []wire.Permit {
	all := make([]wire.Permit, 0, len(x.permits)+2)
	for _, p := range x.permits {
		all = append(all, p)
	}
	if x.asked != nil {
		all = append(all, x.asked)
	}
	if x.pinned.views != nil {
		all = append(all, &x.pinned)
	}
	return all
}

// end closes the permits.
func (x *exchange) end(ctx context.Context, status decisionv1.Outcome_Status) {
	for _, p := range x.permits {
		p.End(ctx, status)
	}
}

// binding is what a state is good for that the server has the agent keep instead
// of answering.
func (x *exchange) binding() state.Binding {
	return state.Binding{
		Server: x.server, Upstream: x.key.ID, Session: x.session,
		Method: x.origin.Method, Params: state.Digest(x.origin.Params),
	}
}

// openState puts what the server said in the place of what the agent keeps of it,
// and refuses what it does not keep for this request.
func (x *exchange) openState(m *message.Message) (*message.Message, *message.Error) {
	sealed, ok := m.Params.Get(message.ParamState)
	if !ok {
		return m, nil
	}
	text, ok := sealed.(string)
	if !ok {
		return m, &message.Error{Code: message.CodeInvalidParams, Problem: "requestState must be a string"}
	}
	opened, ticket, err := x.h.states.Open(x.binding(), text)
	if err != nil {
		return m, &message.Error{Code: message.CodeInvalidParams, Problem: err.Error() + ": ask again from the start"}
	}
	x.ticket = ticket
	return m.With(message.ParamState, opened), nil
}

// maxMethod is the longest method that a refused message is recorded with.
const maxMethod = 256

// recordMalformed records that a message was refused of which at least the method
// could be read; calls are what it would have had decided, if that could be too.
func (x *exchange) recordMalformed(ctx context.Context, m *message.Message, calls []pdp.Call) {
	if len(calls) == 0 && m.Method != "" && len(m.Method) <= maxMethod {
		calls = []pdp.Call{{Kind: pdp.Method, Server: x.server, Session: x.session, Name: m.Method}}
	}
	for _, c := range calls {
		x.h.config.Enforcer.Refuse(ctx, c, pdp.Malformed)
	}
}

// schemaOf returns the input schema that was accepted of the tool that is called;
// empty if none was, or none is called.
func (x *exchange) schemaOf(calls []pdp.Call) string {
	if len(calls) != 1 || calls[0].Kind != pdp.Tool || x.origin.Rule.Task {
		return ""
	}
	if t := x.h.config.Views.View().Snapshot.Tool(x.server, calls[0].Name); t != nil {
		return t.InputSchema()
	}
	return ""
}
