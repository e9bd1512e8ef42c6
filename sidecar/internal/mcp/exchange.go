package mcp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/rule"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/session"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sight"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/state"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/wire"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// maxKept is the longest message whose buffer is kept for another, and whose
// answer can be resumed.
const maxKept = 64 << 10

// staleCheck is how often a stream that listens looks whether it may go on.
const staleCheck = 250 * time.Millisecond

// An exchange is one HTTP request of the agent and what answers it.
type exchange struct {
	h      *Handler
	w      http.ResponseWriter
	r      *http.Request
	server string
	key    session.Key
	// session is the id of the agent's session that the exchange is in; empty if
	// in none.
	session string

	// origin is what is to be answered.
	origin session.Origin
	kind   message.Kind
	// long says that the message was too long to be remembered.
	long    bool
	permits []*pep.Permit
	// asked is the permit of the server's question that the message answers; nil
	// if it answers none, or one that needed no permit.
	asked *pep.Permit
	// pinned holds while the definition is the accepted one that the server's list
	// was held against; zero if the message calls no tool.
	pinned pinned
	// left says that something of the message may have left.
	left bool
	// ticket is what the message uses up: what the server had the agent keep; nil
	// if nothing.
	ticket *state.Ticket
	// stream is the number of the stream that answers; 0 until it has one.
	stream uint64
	// event is the server's id of the last event that was passed on, after which
	// a stream that listens resumes.
	event string

	// writing guards begun and what is written of a stream of events.
	writing sync.Mutex
	// begun says that a stream of events has begun to be written.
	begun bool
	// wanted are the lists of whose changes the agent is told on a stream that
	// listens, which it is from when it may be. writing guards it.
	wanted sight.Kinds
}

// refuse answers in the server's place, if it is not too late for that.
func (x *exchange) refuse(r *refusal) outcome {
	if !x.begun {
		r.write(x.w, x.kind, x.origin.ID)
	}
	switch r.code {
	case message.CodeDenied:
		return outcomeDenied
	case message.CodeInternal:
		return outcomeFailed
	default:
		return outcomeRefused
	}
}

// post serves a message of the agent.
func (x *exchange) post() outcome {
	m, refused := x.read()
	if m != nil {
		x.origin.ID = m.ID
	}
	if refused != nil {
		x.h.log.DebugContext(x.r.Context(), "message refused", slog.String("problem", refused.message))
		if m != nil {
			x.recordMalformed(x.r.Context(), m, nil)
		}
		return x.refuse(refused)
	}
	x.kind = m.Kind
	ctx := x.r.Context()
	var calls []pdp.Call
	if m.Kind != message.Response {
		x.origin.Method, x.origin.Params = m.Method, m.Params
		x.origin.Rule = rule.Of(m.Method)
		var err *message.Error
		if calls, err = x.origin.Rule.Calls(x.place(), m); err != nil {
			x.recordMalformed(ctx, m, nil)
			return x.refuse(malformed(err))
		}
	}
	if err := message.CheckHeaders(x.r.Header, m, x.origin.Rule.About(m), x.schemaOf(calls)); err != nil {
		x.h.log.WarnContext(ctx, "headers contradict the message", slog.String("problem", err.Problem))
		x.recordMalformed(ctx, m, calls)
		return x.refuse(malformed(err))
	}
	if refused := x.checkSession(); refused != nil {
		x.kind = 0 // the status is the answer: the agent is to begin a new session
		return x.refuse(refused)
	}
	if m.Kind == message.Response {
		return x.reply(m)
	}
	m, err := x.openState(m)
	if err != nil {
		x.recordMalformed(ctx, m, calls)
		return x.refuse(malformed(err))
	}
	x.origin.Calls = calls
	if refused := x.authorize(ctx); refused != nil {
		return x.refuse(refused)
	}
	if m.Method == rule.Listen {
		return x.untilDrained(ctx, func(ctx context.Context) outcome {
			return x.forward(ctx, http.MethodPost, m.Append(nil))
		})
	}
	ctx, cancel := context.WithTimeout(ctx, x.h.config.CallTimeout)
	defer cancel()
	return x.forward(ctx, http.MethodPost, m.Append(make([]byte, 0, 1024)))
}

// read reads the message. What it returns with a refusal has at most an ID.
func (x *exchange) read() (*message.Message, *refusal) {
	if t, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, code: message.CodeInvalidRequest, message: "Content-Type must be application/json."}
	}
	limit := int64(x.h.config.MaxBody)
	tooLong := &refusal{
		status: http.StatusRequestEntityTooLarge, code: message.CodeInvalidRequest,
		message: "The message is longer than " + strconv.FormatInt(limit, 10) + " bytes.",
	}
	if x.r.ContentLength > limit {
		return nil, tooLong
	}
	control := http.NewResponseController(x.w)
	_ = control.SetReadDeadline(time.Now().Add(x.h.config.BodyTimeout)) // not every listener has deadlines
	buf := x.h.bodies.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxKept {
			buf.Reset()
			x.h.bodies.Put(buf)
		}
	}()
	_, err := buf.ReadFrom(http.MaxBytesReader(x.w, x.r.Body, limit))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, tooLong
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &refusal{status: http.StatusRequestTimeout, code: message.CodeInvalidRequest, message: "The message took too long to arrive."}
	case err != nil:
		return nil, &refusal{status: http.StatusBadRequest, code: message.CodeInvalidRequest, message: "The message broke off."}
	}
	_ = control.SetReadDeadline(time.Time{})
	x.origin.Size = buf.Len()
	x.long = x.origin.Size > maxKept
	m, err := message.Parse(buf.Bytes(), x.h.limits)
	var invalid *message.Error
	if errors.As(err, &invalid) {
		return m, malformed(invalid)
	}
	return m, nil
}

// forward sends the request on and answers with what comes back. A stream that
// listens is not answered when it is cut: its caller says what becomes of it.
func (x *exchange) forward(ctx context.Context, method string, text []byte) outcome {
	var resp *http.Response
	var err error
	parent := ctx
	denial := x.under(parent, x.permits, func(permitted context.Context, server *grant.Server) (begun bool) {
		ctx = permitted
		if err = x.ticket.Spend(); err != nil {
			return false
		}
		resp, begun, err = x.send(ctx, x.needed(), server, method, text, method == http.MethodPost)
		if x.left = begun; !begun {
			x.ticket.Return()
		}
		return begun
	})
	if denial != nil {
		if x.listening() {
			return outcomeCut
		}
		return x.refuse(x.denied(denial, denial.Decision))
	}
	if err != nil {
		status, o, refused := x.failure(ctx, err)
		x.end(parent, status)
		if o != outcomeCut || !x.listening() {
			x.refuse(refused)
		}
		return o
	}
	defer resp.Body.Close()
	status, o := x.answer(ctx, resp)
	x.end(parent, status)
	return o
}

// send sends one request to the server, under permits, and returns when it has
// begun to answer. described says that text is the message that the agent's
// headers describe; begun, whether anything of the request may have left.
func (x *exchange) send(ctx context.Context, permits []wire.Permit, server *grant.Server, method string, text []byte, described bool) (resp *http.Response, begun bool, err error) {
	var content io.Reader
	if text != nil {
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, server.URL(), content)
	if err != nil {
		return nil, false, err
	}
	copyHeaders(req.Header, x.r.Header, toServer)
	if described {
		describe(req.Header, x.r.Header)
	}
	if x.key.ID != "" {
		req.Header.Set(message.HeaderSession, x.key.ID)
	}
	if text != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if x.event != "" && method == http.MethodGet {
		req.Header.Set(message.HeaderEvent, x.event)
	}
	return x.h.wire.RoundTrip(req, server, permits)
}

// delete ends a session.
func (x *exchange) delete() outcome {
	if refused := x.checkSession(); refused != nil {
		return x.refuse(refused)
	}
	ctx := x.r.Context()
	if refused := x.authorize(ctx); refused != nil {
		return x.refuse(refused)
	}
	return x.forward(ctx, http.MethodDelete, nil)
}

// checkSession refuses a session that the server did not begin through here.
func (x *exchange) checkSession() *refusal {
	if len(x.r.Header[message.HeaderSession]) > 1 || !x.h.sessions.Known(x.key) {
		return unknownSession
	}
	return nil
}

var unknownSession = &refusal{
	status: http.StatusNotFound, code: message.CodeInvalidRequest,
	message: "This session was not begun here, or is over: begin a new one.",
}
