package mcp

import (
	"net/http"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
)

// get serves a stream that listens: to what the server has to say, or to the
// rest of an answer that broke off. The latter is decided anew.
func (x *exchange) get() outcome {
	if refused := x.sessionHeader(); refused != nil {
		return x.refuse(refused)
	}
	if tagged := x.r.Header.Get("Last-Event-Id"); tagged != "" {
		stream, o, event, ok := x.h.sessions.resume(x.key, tagged)
		if !ok {
			return x.refuse(&refusal{
				status: http.StatusBadRequest, code: message.CodeInvalidRequest,
				message: "Nothing can be resumed after this event.",
			})
		}
		x.stream, x.origin, x.event = stream, o, event
	}
	return x.bodiless()
}

// delete ends a session.
func (x *exchange) delete() outcome {
	if refused := x.sessionHeader(); refused != nil {
		return x.refuse(refused)
	}
	o := x.bodiless()
	x.h.sessions.end(x.r.Context(), x.key)
	return o
}

func (x *exchange) sessionHeader() *refusal {
	if len(x.r.Header[headerSession]) > 1 || !x.h.sessions.known(x.key) {
		return unknownSession
	}
	return nil
}

// bodiless has a request without a message decided and passes it on. Refusals
// are HTTP statuses, because there is no request to answer.
func (x *exchange) bodiless() outcome {
	ctx := x.r.Context()
	if refused := x.authorize(ctx); refused != nil {
		return x.refuse(refused)
	}
	return x.forward(ctx, x.r.Method, nil)
}
