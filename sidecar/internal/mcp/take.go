package mcp

import (
	"context"
	"log/slog"
	"net/http"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/rule"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/task"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/wire"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// taken is what became of one message of a server.
type taken struct {
	// text is what the agent gets; nil for nothing.
	text []byte
	// final says that the message answers the exchange, with this status.
	final   bool
	status  decisionv1.Outcome_Status
	outcome outcome
	// err is why the message cannot be understood.
	err error
}

// take decides what becomes of a message of the server.
func (x *exchange) take(ctx context.Context, text []byte) taken {
	scanner := x.h.scanners.Get().(*message.Scanner)
	defer x.h.scanners.Put(scanner)
	a, err := scanner.Scan(text)
	if err != nil {
		return taken{err: err}
	}
	switch a.Kind {
	case message.Request:
		return taken{text: x.question(ctx, text, a.ID)}
	case message.Notification:
		if text = x.heard(ctx, &a, text); text == nil {
			x.withhold(ctx, a.Method)
		}
		return taken{text: text}
	default:
		if x.origin.ID.IsZero() || a.ID != x.origin.ID && (!a.ID.IsZero() || !a.Failed) {
			x.withhold(ctx, "response")
			return taken{}
		}
		return x.response(ctx, &a, text)
	}
}

// response decides what becomes of the answer to the agent's request.
func (x *exchange) response(ctx context.Context, a *message.Answer, text []byte) taken {
	t := taken{text: text, final: true, status: decisionv1.Outcome_OK, outcome: outcomeAnswered}
	if a.IsError() {
		t.status = decisionv1.Outcome_ERROR
	}
	if a.Failed {
		return t
	}
	wants, err := a.Wants()
	if err != nil {
		return taken{err: err}
	}
	for _, want := range wants {
		if refused := x.want(ctx, want); refused != nil {
			x.withhold(ctx, "input request")
			t.text, t.outcome = refused.response(x.origin.ID), outcomeDenied
			return t
		}
	}
	if x.origin.Rule.List != "" {
		t.text, t.err = a.Filter(nil, x.listed())
		return t
	}
	if len(x.origin.Calls) == 1 && !x.origin.Rule.Task {
		if id, begun := task.Of(a); begun {
			x.h.tasks.Begin(id, x.origin.Calls[0], x.origin.Size)
		}
	}
	var changes []message.Change
	if x.origin.Rule.Claims {
		changes = x.claims(a)
	}
	given, err := a.State()
	if err != nil {
		return taken{err: err}
	}
	// What else says so is not asked again: it would not be counted.
	if kind, _ := a.ResultString("resultType"); given != "" && kind == "input_required" {
		sealed := strictjson.Append(nil, x.h.states.Seal(x.binding(), given, x.counted()))
		changes = append(changes, message.Change{Name: message.ParamState, Value: sealed})
	}
	t.text = a.Private(nil, changes...)
	return t
}

// listed says what of a list the agent may see.
func (x *exchange) listed() *message.List {
	r := x.origin.Rule
	visible := x.h.config.Enforcer.Visible(x.server, x.session)
	l := &message.List{
		Member: r.List, Key: r.Key, Unique: r.Kind == pdp.Tool,
		Lifetime: x.h.config.Views.View().FreshFor().Milliseconds(),
		Hinted:   !r.Task && x.r.Header.Get(message.HeaderVersion) >= message.Stateless,
	}
	switch {
	case r.Task:
		all := visible(pdp.Method, x.origin.Method)
		l.Visible = func(id string, _ []byte) bool { return all || x.seesTask(id) }
	case r.Kind == pdp.Tool:
		passing := x.h.lists.Passing(x.server)
		l.Visible = func(name string, item []byte) bool {
			return passing.Item(name, item, visible(pdp.Tool, name))
		}
	default:
		l.Visible = func(name string, _ []byte) bool { return visible(r.Kind, name) }
	}
	return l
}

// seesTask reports whether the agent may see what becomes of a task.
func (x *exchange) seesTask(id string) bool {
	call, known := x.h.tasks.Began(x.server, id)
	if !known {
		return x.h.config.Enforcer.Visible(x.server, x.session)(pdp.Method, "tasks/get")
	}
	return x.h.config.Enforcer.Visible(x.server, call.Session)(call.Kind, call.Name)
}

// heard decides a notification of the server, and returns what the agent hears of
// it; nil for nothing.
func (x *exchange) heard(ctx context.Context, a *message.Answer, text []byte) []byte {
	switch a.Method {
	case "notifications/resources/updated":
		uri, ok := a.String("uri")
		if !ok || !x.h.config.Enforcer.Visible(x.server, x.session)(pdp.Resource, uri) {
			return nil
		}
	case "notifications/tasks/status", "notifications/tasks":
		id, ok := a.String("taskId")
		wants, err := a.Asks()
		if !ok || err != nil || !x.seesTask(id) {
			return nil
		}
		for _, want := range wants {
			if x.want(ctx, want) != nil {
				return nil
			}
		}
	case "notifications/tools/list_changed":
		x.h.lists.Drop(x.server)
	case "notifications/subscriptions/acknowledged":
		return x.acknowledge(text)
	default:
		if !rule.Heard(a.Method) && x.may(ctx, a.Method, text) != nil {
			return nil
		}
	}
	return text
}

// may decides an unknown notification of the server, and returns why the agent may
// not hear it, or nil.
func (x *exchange) may(ctx context.Context, method string, text []byte) *refusal {
	m, err := message.Parse(text, x.h.limits)
	if err != nil || message.Ambiguous(m.Params) != "" {
		return failed(x.server, "said something that cannot be understood.")
	}
	return x.once(ctx, pdp.Call{Kind: pdp.Method, Server: x.server, Session: x.session, Name: method, Args: m.Params})
}

// once decides something that is over when it has been passed on.
func (x *exchange) once(ctx context.Context, c pdp.Call) *refusal {
	p := x.h.config.Enforcer.Authorize(ctx, c)
	if !p.Forward(ctx, func(context.Context, *grant.Server) bool { return true }) {
		return x.denied(p, p.Decision)
	}
	p.End(ctx, decisionv1.Outcome_OK)
	return nil
}

// want decides one thing that the server asks of the agent instead of
// answering, and returns why it may not ask, or nil.
func (x *exchange) want(ctx context.Context, text []byte) *refusal {
	v, err := strictjson.Parse(text, x.h.limits)
	o, _ := v.(*strictjson.Object)
	method, ok := o.String("method")
	if err != nil || !ok || message.Ambiguous(o, "method", "params") != "" {
		return failed(x.server, "asked for something that cannot be understood.")
	}
	params, _ := o.Object("params")
	return x.once(ctx, pdp.Call{Kind: pdp.Method, Server: x.server, Session: x.session, Name: method, Args: params})
}

// question decides a request of the server to the agent. It returns what the
// agent gets. If that is nothing, the server has been told why.
func (x *exchange) question(ctx context.Context, text []byte, id message.ID) []byte {
	m, err := message.Parse(text, x.h.limits)
	if err != nil {
		x.withhold(ctx, "request")
		x.tell(ctx, id, &refusal{code: message.CodeInvalidRequest, message: err.Error()})
		return nil
	}
	if m.Method == "ping" {
		if _, ok := x.h.sessions.Ask(x.key, m.ID, nil); !ok {
			return nil
		}
		return m.Append(nil)
	}
	p := x.h.config.Enforcer.Authorize(ctx, pdp.Call{Kind: pdp.Method, Server: x.server, Session: x.session, Name: m.Method, Args: m.Params})
	if !p.Forward(ctx, func(context.Context, *grant.Server) bool { return true }) {
		x.withhold(ctx, m.Method)
		x.tell(ctx, m.ID, &refusal{code: message.CodeDenied, message: "The agent may not be asked for " + m.Method + ": " + p.Decision.Reason.String() + "."})
		return nil
	}
	before, ok := x.h.sessions.Ask(x.key, m.ID, p)
	if !ok {
		p.End(ctx, decisionv1.Outcome_CANCELLED)
		x.tell(ctx, m.ID, overloaded("questions"))
		return nil
	}
	if before != nil {
		before.End(ctx, decisionv1.Outcome_CANCELLED)
	}
	return m.Append(nil)
}

func (x *exchange) withhold(ctx context.Context, what string) {
	x.h.metrics.withheld.Add(ctx, 1)
	x.h.log.WarnContext(ctx, "message withheld from the agent",
		slog.String("server", x.server), slog.String("message", what))
}

// tell answers a question of the server in the agent's place. What the server
// makes of it is its own affair.
func (x *exchange) tell(ctx context.Context, id message.ID, r *refusal) {
	p := x.h.config.Enforcer.Admit(x.server, x.session)
	status := decisionv1.Outcome_FAILED
	ctx, cancel := context.WithTimeout(ctx, x.h.config.BodyTimeout)
	defer cancel()
	p.Forward(ctx, func(ctx context.Context, server *grant.Server) bool {
		resp, begun, err := x.send(ctx, []wire.Permit{p}, server, http.MethodPost, r.response(id), false)
		if err != nil {
			x.h.log.WarnContext(ctx, "server not told", slog.String("server", x.server), slog.Any("error", err))
			return begun
		}
		resp.Body.Close()
		status = decisionv1.Outcome_OK
		return begun
	})
	p.End(ctx, status)
}

// reply passes the agent's answer to a question on, if the server asked one.
func (x *exchange) reply(m *message.Message) outcome {
	ctx := x.r.Context()
	permit, ok := x.h.sessions.Answer(x.key, m.ID)
	if !ok {
		return x.refuse(&refusal{
			status: http.StatusBadRequest, code: message.CodeInvalidRequest,
			message: "Nobody waits for this response: it has been answered, or was never asked.",
		})
	}
	if permit == nil {
		return x.pass(ctx, m)
	}
	status := decisionv1.Outcome_OK
	if m.Failed {
		status = decisionv1.Outcome_ERROR
	}
	defer func() { permit.End(ctx, status) }()
	if d, taken := permit.Taken(); taken {
		status = decisionv1.Outcome_CUT
		x.tell(ctx, m.ID, &refusal{code: message.CodeDenied, message: "The agent may no longer be asked."})
		return x.refuse(x.denied(permit, d))
	}
	x.asked = permit
	o := x.pass(ctx, m)
	if o == outcomeCut || o == outcomeDenied {
		status = decisionv1.Outcome_CUT
	}
	return o
}

// pass forwards a message that needs no grant of its own.
func (x *exchange) pass(ctx context.Context, m *message.Message) outcome {
	if refused := x.authorize(ctx); refused != nil {
		return x.refuse(refused)
	}
	ctx, cancel := context.WithTimeout(ctx, x.h.config.CallTimeout)
	defer cancel()
	return x.forward(ctx, http.MethodPost, m.Append(nil))
}
