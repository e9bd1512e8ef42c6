package mcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/state"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// A refusal is an error that the sidecar answers with in the server's place.
type refusal struct {
	// status is for messages that are not requests: a request is answered with
	// a response, and that is 200.
	status  int
	code    int
	message string
	data    *strictjson.Object
}

// malformed refuses a message that nothing could be decided on.
func malformed(err *message.Error) *refusal {
	return &refusal{
		status: http.StatusBadRequest, code: err.Code, message: err.Problem,
		data: strictjson.NewObject(strictjson.Member{Key: "reason", Value: pdp.Malformed.String()}),
	}
}

// overloaded refuses for want of room.
func overloaded(what string) *refusal {
	return &refusal{
		status: http.StatusServiceUnavailable, code: message.CodeDenied,
		message: "The sidecar is at its limit of " + what + ": wait for one to end, then try again.",
		data:    strictjson.NewObject(strictjson.Member{Key: "reason", Value: pdp.Overloaded.String()}),
	}
}

// failed says that the server, not the sidecar, is why there is no answer.
func failed(server, problem string) *refusal {
	return &refusal{
		status: http.StatusBadGateway, code: message.CodeInternal,
		message: "Server " + strconv.Quote(server) + " " + problem,
	}
}

// denied refuses a call for the reason of d, which is its permit's or what its
// permit was cut for.
func (x *exchange) denied(p *pep.Permit, d pdp.Decision) *refusal {
	status := http.StatusForbidden
	switch d.Reason {
	case pdp.Stale, pdp.Unavailable:
		status = http.StatusServiceUnavailable
	case pdp.RateLimited:
		status = http.StatusTooManyRequests
	default:
	}
	members := []strictjson.Member{{Key: "reason", Value: d.Reason.String()}}
	if p.ID != "" {
		members = append(members, strictjson.Member{Key: "decision", Value: p.ID})
	}
	if d.Grant != "" {
		members = append(members, strictjson.Member{Key: "grant", Value: d.Grant})
	}
	return &refusal{
		status: status, code: message.CodeDenied,
		message: x.sentence(p.Call, d), data: strictjson.NewObject(members...),
	}
}

// sentence says to an agent why its call was denied, and what it can do.
func (x *exchange) sentence(c pdp.Call, d pdp.Decision) string {
	thing := kindWord(c.Kind) + " " + strconv.Quote(c.Name) + " of server " + strconv.Quote(c.Server)
	if c.Kind == 0 {
		thing = "server " + strconv.Quote(c.Server)
	}
	switch d.Reason {
	case pdp.NotGranted:
		return fmt.Sprintf("Denied: no grant allows you to use %s. Do not retry; ask whoever runs you for a grant, or go on without it.", thing)
	case pdp.Forbidden:
		return fmt.Sprintf("Denied: %s is forbidden by %s. Do not retry; go on without it.", thing, d.Grant)
	case pdp.ConditionFalse:
		return fmt.Sprintf("Denied: you may use %s, but not with these arguments or at this moment: the condition of %s does not hold. Change the arguments, or ask whoever runs you.", thing, d.Grant)
	case pdp.ArgumentsInvalid:
		return fmt.Sprintf("Denied: the arguments of %s are not what it takes%s Change them, and try again.", thing, x.problem(c))
	case pdp.SessionRequired:
		return fmt.Sprintf("Denied: you may use %s only in a session that is as %s asks for, and this call is in %s. Do not retry; ask whoever runs you to start you in such a session.", thing, d.Grant, sessionWord(c.Session, "none", " which is not"))
	case pdp.SessionEnded:
		return fmt.Sprintf("Denied: %s has ended, or is not yours. Do not retry; stop, and ask whoever runs you for a new one.", sessionWord(c.Session, "the session", ""))
	case pdp.SessionClaimed:
		return fmt.Sprintf("Denied: %s is used through another sidecar, or could not be claimed for this one. Retry in a few seconds; if it is still denied, ask whoever runs you for a new session.", sessionWord(c.Session, "the session", ""))
	case pdp.LimitReached:
		return fmt.Sprintf("Denied: all calls of %s that %s allows have been made. Do not retry; ask whoever runs you for more, or go on without it.", thing, limiter(c, d))
	case pdp.RateLimited:
		return fmt.Sprintf("Denied: %s was called as often as %s allows in such a time. Wait, then retry; call it less often.", thing, limiter(c, d))
	case pdp.Expired:
		return fmt.Sprintf("Denied: your grant for %s has expired. Do not retry; ask whoever runs you to renew %s.", thing, d.Grant)
	case pdp.NotYetValid:
		return fmt.Sprintf("Denied: your grant for %s is not valid yet. Retry later.", thing)
	case pdp.Suspended:
		return "Denied: you are suspended, or not known yet. Stop, and tell whoever runs you."
	case pdp.Halted:
		return "Denied: an operator has halted all agents, or all of your namespace. Stop, and wait until whoever runs you says that it is over."
	case pdp.UnknownTool:
		return fmt.Sprintf("Denied: there is no %s in the catalogue. Use a tool that tools/list shows.", thing)
	case pdp.UnknownServer:
		return fmt.Sprintf("Denied: there is no server %q for you in the catalogue.", c.Server)
	case pdp.Unavailable:
		return "Denied: the call could not be recorded, or not counted where it must be, and nothing is done without. Retry later; the operator has been told."
	case pdp.Malformed:
		if problem := grant.URIProblem(c.Name); c.Kind == pdp.Resource && problem != "" {
			return fmt.Sprintf("Denied: the URI %q can be read in more than one way: %s.", c.Name, problem)
		}
		return "Denied: the message contradicts itself."
	case pdp.DefinitionChanged:
		return fmt.Sprintf("Denied: %s is not the one that was accepted: its server now describes it in another way. Do not retry; whoever runs you has to accept it first.", thing)
	case pdp.Overloaded:
		return "Denied: the sidecar is at its limit. Retry later."
	case pdp.Stale:
		return "Denied: the sidecar has not heard from the control plane for too long and cannot know what is still allowed. Retry in a few seconds."
	default:
		return fmt.Sprintf("Denied: %s (%s).", thing, d.Reason)
	}
}

// problem continues a sentence with what is wrong with the arguments of a call of
// a pinned tool, without their values, and ends it.
func (x *exchange) problem(c pdp.Call) string {
	tool := x.h.config.Views.View().Snapshot.Tool(c.Server, c.Name)
	if tool == nil || !tool.Pinned() {
		return "."
	}
	err := tool.Arguments().Check(c.Args)
	switch {
	case err == nil:
		return "."
	case strings.HasSuffix(err.Error(), "?"):
		return ": " + err.Error()
	default:
		return ": " + err.Error() + "."
	}
}

// sessionWord names a session, and says more of it; none stands for no session.
func sessionWord(id, none, more string) string {
	if id == "" {
		return none
	}
	return "session " + strconv.Quote(id) + more
}

// limiter names whose limits denied a call: a grant's, or its session's.
func limiter(c pdp.Call, d pdp.Decision) string {
	if d.Grant == "" {
		return sessionWord(c.Session, "the session", "")
	}
	return d.Grant
}

func kindWord(k pdp.Kind) string {
	switch k {
	case pdp.Tool:
		return "tool"
	case pdp.Resource:
		return "resource"
	case pdp.Prompt:
		return "prompt"
	default:
		return "method"
	}
}

// response returns the refusal as the response to the request id.
func (r *refusal) response(id message.ID) []byte {
	dst := []byte(`{"jsonrpc":"2.0","id":`)
	dst = append(dst, id.JSON()...)
	dst = append(dst, `,"error":`...)
	return append(r.appendError(dst), '}')
}

// notification returns the refusal as a message for the agent's log: its data is
// what a response would have as its error.
func (r *refusal) notification() []byte {
	level := "error"
	if r.status == http.StatusServiceUnavailable {
		level = "warning" // it passes
	}
	dst := []byte(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"` + level + `","logger":"reeve","data":`)
	return append(r.appendError(dst), "}}"...)
}

func (r *refusal) appendError(dst []byte) []byte {
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(r.code), 10)
	dst = append(dst, `,"message":`...)
	dst = strictjson.Append(dst, r.message)
	if r.data != nil {
		dst = append(dst, `,"data":`...)
		dst = strictjson.Append(dst, r.data)
	}
	return append(dst, '}')
}

// write answers with the refusal. A request that was understood is answered
// with a response, anything else with an HTTP status too.
func (r *refusal) write(w http.ResponseWriter, kind message.Kind, id message.ID) {
	status := r.status
	if kind == message.Request && r.code != message.CodeHeaderMismatch {
		status = http.StatusOK
	}
	if r.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeMessage(w, status, r.response(id))
}

// writeMessage answers with one JSON-RPC message.
func writeMessage(w http.ResponseWriter, status int, text []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the agent has gone; there is nobody to tell
}

// failure says how an exchange ended that err ended.
func (x *exchange) failure(ctx context.Context, err error) (decisionv1.Outcome_Status, outcome, *refusal) {
	var cut *pep.CutError
	switch {
	case errors.As(context.Cause(ctx), &cut), errors.As(err, &cut):
		p := x.permits[0]
		for _, other := range append(slices.Clone(x.permits), x.asked) {
			if other == nil {
				continue
			}
			if _, taken := other.Taken(); taken {
				p = other
			}
		}
		return decisionv1.Outcome_CUT, outcomeCut, x.denied(p, cut.Decision)
	case errors.Is(context.Cause(ctx), errDraining):
		return decisionv1.Outcome_CANCELLED, outcomeCancelled, failed(x.server, "is not listened to any more: the sidecar is stopping.")
	case x.r.Context().Err() != nil:
		return decisionv1.Outcome_CANCELLED, outcomeCancelled, failed(x.server, "was not waited for.")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return decisionv1.Outcome_FAILED, outcomeFailed, failed(x.server, "took longer to answer than it may.")
	}
	if errors.Is(err, errRepinned) {
		d := pdp.Decision{Reason: pdp.DefinitionChanged}
		refused := x.denied(x.permits[0], d)
		if x.left {
			return decisionv1.Outcome_CUT, outcomeCut, refused
		}
		x.withdraw(ctx, d)
		return decisionv1.Outcome_WITHDRAWN, outcomeDenied, refused
	}
	if errors.Is(err, state.ErrSpent) {
		x.withdraw(ctx, pdp.Decision{Reason: pdp.Malformed})
		return decisionv1.Outcome_WITHDRAWN, outcomeRefused, malformed(&message.Error{Code: message.CodeInvalidParams, Problem: err.Error()})
	}
	var told interface {
		error
		Sentence() string // continues the name of the server
	}
	if errors.As(err, &told) {
		x.h.log.WarnContext(ctx, "server not reached", slog.String("server", x.server), slog.Any("error", err))
		return decisionv1.Outcome_FAILED, outcomeFailed, failed(x.server, told.Sentence())
	}
	x.h.log.WarnContext(ctx, "server failed", slog.String("server", x.server), slog.Any("error", err))
	return decisionv1.Outcome_FAILED, outcomeFailed, failed(x.server, "could not be reached, or broke off. Retry later; the sidecar's log says more.")
}
