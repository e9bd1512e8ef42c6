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
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
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
	key    sessionKey

	// origin is what is to be answered.
	origin origin
	kind   message.Kind
	// long says that the message was too long to be remembered.
	long    bool
	permits []*pep.Permit
	// asked is the permit of the server's question that the message answers; nil
	// if it answers none, or one that needed no permit.
	asked *pep.Permit
	// stream is the number of the stream that answers; 0 until it has one.
	stream uint64
	// event is the server's id of the last event that was passed on, after which
	// a stream that listens resumes.
	event string
	// begun says that a stream of events has begun to be written.
	begun bool
}

// within is the id of the agent's session that the exchange is in; empty if in
// none.
func (x *exchange) within() string { return x.r.Header.Get("Reeve-Session") }

// refuse answers in the server's place, if it is not too late for that.
func (x *exchange) refuse(r *refusal) outcome {
	if !x.begun {
		r.write(x.w, x.kind, x.origin.id)
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
		x.origin.id = m.ID
	}
	if refused != nil {
		x.h.log.DebugContext(x.r.Context(), "message refused", slog.String("problem", refused.message))
		return x.refuse(refused)
	}
	x.kind = m.Kind
	var calls []pdp.Call
	if m.Kind != message.Response {
		x.origin.rule = ruleOf(m.Method)
		var err *message.Error
		if calls, err = x.origin.rule.calls(x.server, m); err != nil {
			return x.refuse(malformed(err))
		}
	}
	ctx := x.r.Context()
	if err := message.CheckHeaders(x.r.Header, m, x.origin.rule.about(m)); err != nil {
		x.h.log.WarnContext(ctx, "headers contradict the message", slog.String("problem", err.Problem))
		for _, c := range calls {
			x.h.config.Enforcer.Refuse(ctx, c, pdp.Malformed)
		}
		return x.refuse(malformed(err))
	}
	if refused := x.checkSession(); refused != nil {
		x.kind = 0 // the status is the answer: the agent is to begin a new session
		return x.refuse(refused)
	}
	if m.Kind == message.Response {
		return x.reply(m)
	}
	x.origin.calls = calls
	if refused := x.authorize(ctx); refused != nil {
		return x.refuse(refused)
	}
	if m.Method == "subscriptions/listen" {
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
	x.long = buf.Len() > maxKept
	m, err := message.Parse(buf.Bytes(), x.h.limits)
	var invalid *message.Error
	if errors.As(err, &invalid) {
		return m, malformed(invalid)
	}
	return m, nil
}

// get serves a stream that listens: to what the server has to say, or to the
// rest of an answer that broke off. The latter is decided anew.
func (x *exchange) get() outcome {
	if refused := x.checkSession(); refused != nil {
		return x.refuse(refused)
	}
	ctx := x.r.Context()
	tagged := x.r.Header.Get(message.HeaderEvent)
	if tagged == "" {
		return x.untilDrained(ctx, x.listen)
	}
	var ok bool
	x.stream, x.origin, x.event, ok = x.h.sessions.resume(x.key, tagged)
	switch {
	case !ok:
		return x.refuse(&refusal{
			status: http.StatusBadRequest, code: message.CodeInvalidRequest,
			message: "Nothing can be resumed after this event.",
		})
	case x.origin.id.IsZero():
		return x.untilDrained(ctx, x.listen)
	}
	if refused := x.authorize(ctx); refused != nil {
		return x.refuse(refused)
	}
	ctx, cancel := context.WithTimeout(ctx, x.h.config.CallTimeout)
	defer cancel()
	return x.forward(ctx, http.MethodGet, nil)
}

// listening reports whether the exchange waits for what the server has to say.
func (x *exchange) listening() bool { return x.r.Method == http.MethodGet && x.origin.id.IsZero() }

// listen serves what the server has to say. Nothing passes while the sidecar is
// stale, but the agent's stream stays: clients take its end for the end of the
// session.
func (x *exchange) listen(ctx context.Context) outcome {
	told := false
	for {
		refused := x.authorize(ctx)
		if refused == nil {
			told = false
			if o := x.forward(ctx, http.MethodGet, nil); o != outcomeCut {
				return o
			}
			refused = x.authorize(ctx)
		}
		if refused != nil && x.permits[0].Decision.Reason != pdp.Stale {
			x.farewell(ctx, refused)
			return x.refuse(refused)
		}
		if !x.begun {
			x.begin()
			_ = x.write([]byte(":\n\n"), true) // if the agent has gone, ctx says so
		}
		if refused != nil && !told {
			x.tellWhy(refused)
			told = true
		}
		select {
		case <-ctx.Done():
			return outcomeCancelled
		case <-time.After(staleCheck):
		}
	}
}

// forward sends the request on and answers with what comes back. A stream that
// listens is not answered when it is cut: its caller says what becomes of it.
func (x *exchange) forward(ctx context.Context, method string, text []byte) outcome {
	var resp *http.Response
	var err error
	parent := ctx
	denial := x.under(parent, x.permits, func(permitted context.Context, server *grant.Server) (begun bool) {
		ctx = permitted
		resp, begun, err = x.send(ctx, x.needed(), server, method, text, method == http.MethodPost)
		return begun
	})
	if denial != nil {
		if x.listening() {
			return outcomeCut
		}
		return x.refuse(denied(denial, denial.Decision))
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
func (x *exchange) send(ctx context.Context, permits []*pep.Permit, server *grant.Server, method string, text []byte, described bool) (resp *http.Response, begun bool, err error) {
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
	if x.key.id != "" {
		req.Header.Set(message.HeaderSession, x.key.id)
	}
	if text != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if x.event != "" && method == http.MethodGet {
		req.Header.Set(message.HeaderEvent, x.event)
	}
	return x.h.roundTrip(req, server, permits)
}
