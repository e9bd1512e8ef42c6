package mcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sse"
)

// maxText is how much of an answer is passed on that is no message.
const maxText = 64 << 10

// answer passes on what the server answered.
func (x *exchange) answer(ctx context.Context, resp *http.Response) (decisionv1.Outcome_Status, outcome) {
	good := resp.StatusCode >= 200 && resp.StatusCode < 300
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.Header.Get("Content-Encoding") != "":
		return x.broken(ctx, errors.New("the answer is encoded, which was not asked for"))
	case resp.StatusCode == http.StatusUnauthorized:
		return x.broken(ctx, errors.New("the server wants credentials"))
	case resp.StatusCode < 200:
		return x.broken(ctx, fmt.Errorf("the server leaves HTTP with status %d", resp.StatusCode))
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return x.broken(ctx, fmt.Errorf("the server redirects with status %d: the catalogue must name the right URL", resp.StatusCode))
	case x.key.ID != "" && (resp.StatusCode == http.StatusNotFound || good && x.r.Method == http.MethodDelete):
		x.h.sessions.End(ctx, x.key)
	}
	x.beginSession(ctx, resp, good)
	copyHeaders(x.w.Header(), resp.Header, toAgent)
	switch {
	case good && kind == "text/event-stream" && (x.kind == message.Request || x.r.Method == http.MethodGet):
		return x.relay(ctx, resp)
	case kind == "application/json" && x.kind == message.Request:
		return x.one(ctx, resp)
	case good && x.kind == message.Request:
		return x.broken(ctx, fmt.Errorf("the answer is %q", kind))
	default:
		return x.plain(ctx, resp, good)
	}
}

// beginSession remembers a session that the server begins, and tells the agent.
func (x *exchange) beginSession(ctx context.Context, resp *http.Response, good bool) {
	id := resp.Header.Get(message.HeaderSession)
	switch {
	case id == "" || !good:
		return
	case x.key.ID == "" && x.origin.Rule.Begins:
		x.key.ID = id
		x.h.sessions.Begin(ctx, x.key)
	case id != x.key.ID:
		return
	}
	x.w.Header().Set(message.HeaderSession, id)
}

// plain passes on an answer that is no message: an acknowledgement, or words.
func (x *exchange) plain(ctx context.Context, resp *http.Response, good bool) (decisionv1.Outcome_Status, outcome) {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxText)) // what there is of it, unless it was cut
	if err != nil && ctx.Err() != nil {
		status, o, refused := x.failure(ctx, err)
		if o != outcomeCut || !x.listening() {
			x.refuse(refused)
		}
		return status, o
	}
	if x.begun {
		return decisionv1.Outcome_ERROR, outcomeFailed
	}
	if good {
		text = nil
	}
	h := x.w.Header()
	h.Set("Cache-Control", "no-store")
	if len(text) > 0 {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
	}
	x.w.WriteHeader(resp.StatusCode)
	_, _ = x.w.Write(text) // the agent has gone; there is nobody to tell
	if !good {
		return decisionv1.Outcome_ERROR, outcomeAnswered
	}
	return decisionv1.Outcome_OK, outcomeAnswered
}

// one passes on the message that is the whole answer.
func (x *exchange) one(ctx context.Context, resp *http.Response) (decisionv1.Outcome_Status, outcome) {
	buf := x.h.bodies.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxKept {
			buf.Reset()
			x.h.bodies.Put(buf)
		}
	}()
	limit := int64(x.h.config.MaxAnswer)
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, limit+1))
	if err == nil && n > limit {
		return x.broken(ctx, fmt.Errorf("the answer is longer than %d bytes", limit))
	}
	if err != nil {
		status, o, refused := x.failure(ctx, err)
		x.refuse(refused)
		return status, o
	}
	t := x.take(ctx, buf.Bytes())
	switch {
	case t.err != nil:
		return x.broken(ctx, t.err)
	case !t.final:
		return x.broken(ctx, errors.New("the answer is to something else"))
	}
	x.deadline()
	writeMessage(x.w, resp.StatusCode, t.text)
	return t.status, t.outcome
}

// relay passes on a stream of events until it ends.
func (x *exchange) relay(ctx context.Context, resp *http.Response) (decisionv1.Outcome_Status, outcome) {
	x.h.metrics.streams.Add(ctx, 1)
	defer x.h.metrics.streams.Add(ctx, -1)
	reader := x.h.readers.Get().(*sse.Reader)
	reader.Reset(resp.Body, x.h.config.MaxAnswer)
	defer x.h.readers.Put(reader)
	x.begin()
	if x.kind != message.Request {
		// A stream that only listens may have nothing to say for long.
		x.deadline()
		_ = http.NewResponseController(x.w).Flush() // fails as the next write will
	}
	last := taken{status: decisionv1.Outcome_OK, outcome: outcomeAnswered}
	var out []byte
	for {
		event, err := reader.Next()
		if err == nil {
			err = ctx.Err() // what had arrived by then is cut too
		}
		if err != nil {
			return x.ended(ctx, err, last)
		}
		if len(event.Data) > 0 {
			if event.Name != "" && event.Name != "message" {
				continue // no client knows another, so none can be judged
			}
			t := x.take(ctx, event.Data)
			if t.err != nil {
				return x.ended(ctx, t.err, last)
			}
			if t.final {
				last = t
			}
			if event.Data = t.text; t.text == nil && event.ID == "" {
				continue
			}
		}
		if event.ID != "" {
			x.event, event.ID = event.ID, x.tag(event.ID)
		}
		out = sse.Append(out[:0], event)
		if err := x.write(out, !reader.Ready()); err != nil {
			return decisionv1.Outcome_CANCELLED, outcomeCancelled
		}
	}
}

// ended says how a stream ended that err ended, and tells the agent if it would
// wait in vain.
func (x *exchange) ended(ctx context.Context, err error, last taken) (decisionv1.Outcome_Status, outcome) {
	answered := last.final || x.kind != message.Request
	if answered && errors.Is(err, io.EOF) {
		return last.status, last.outcome
	}
	status, o, refused := x.failure(ctx, err)
	switch {
	case last.final && o == outcomeFailed:
		return last.status, last.outcome
	case last.final || x.origin.ID.IsZero():
		// Nobody waits for an answer.
	case o != outcomeFailed || x.stream == 0:
		// It could not be had by resuming either.
		_ = x.write(eventOf(refused.response(x.origin.ID)), true)
	}
	return status, o
}

// eventOf is a message as an event.
func eventOf(text []byte) []byte {
	return sse.Append(nil, sse.Event{Name: "message", Data: text})
}

// begin begins a stream of events, once.
func (x *exchange) begin() {
	x.writing.Lock()
	defer x.writing.Unlock()
	if x.begun {
		return
	}
	x.begun = true
	if x.listening() {
		x.wanted = x.h.sessions.Offers(x.key)
	}
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
}

// tag makes the id of an event one that only this session can resume after.
func (x *exchange) tag(event string) string {
	if x.long {
		return ""
	}
	if x.stream == 0 {
		x.origin.Session, x.origin.Counted = x.session, x.counted()
		x.stream = x.h.sessions.Resumable(x.key, x.origin)
	}
	if x.stream == 0 {
		return ""
	}
	return x.h.sessions.Tag(x.key, x.stream, event)
}

// broken answers that the server's answer cannot be passed on.
func (x *exchange) broken(ctx context.Context, err error) (decisionv1.Outcome_Status, outcome) {
	x.h.log.WarnContext(ctx, "answer not passed on", slog.String("server", x.server), slog.Any("error", err))
	x.refuse(failed(x.server, "gave an answer that cannot be passed on: "+err.Error()+"."))
	return decisionv1.Outcome_FAILED, outcomeFailed
}

// write writes a piece of a stream.
func (x *exchange) write(text []byte, flush bool) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.deadline()
	if _, err := x.w.Write(text); err != nil {
		return err
	}
	if !flush {
		return nil
	}
	return http.NewResponseController(x.w).Flush()
}

// deadline limits how long the agent may take to take the next piece. The HTTP
// server lifts it at the end of the exchange.
func (x *exchange) deadline() {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.h.config.BodyTimeout)) // not every listener has deadlines
}
