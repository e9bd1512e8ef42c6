package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sse"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio/wire"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// The codes of JSON-RPC that the client is answered with.
const (
	codeParse    = -32700
	codeInvalid  = -32600
	codeInternal = -32603
)

// maxText is how much of an answer is told that is no message.
const maxText = 4 << 10

// errAnswered and errCancelled end what a call has open.
var (
	errAnswered  = errors.New("it was answered")
	errCancelled = errors.New("the client has cancelled it")
)

// request sends a request, and returns when it has left. Its answer is written
// when it comes.
func (r *relay) request(ctx context.Context, m *wire.Message) error {
	select {
	case r.calls <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	id := string(m.ID.Text)
	r.mu.Lock()
	_, twice := r.progress[id]
	if !twice {
		r.progress[id] = cancel
		if m.Method == "subscriptions/listen" {
			r.listens[id] = cancel
		}
	}
	r.mu.Unlock()
	if twice {
		cancel(nil)
		<-r.calls
		return r.fail(m.ID.Text, codeInvalid, "A request with this id is still in progress.")
	}
	answered := func() {}
	if m.Method == "initialize" {
		b := &beginning{id: id, done: make(chan struct{})}
		r.beginning, answered = b, func() { close(b.done) }
	}
	sent := make(chan struct{})
	left := sync.OnceFunc(func() { close(sent) })
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			left()
		}
	}})
	r.tasks.Go(func() {
		defer func() {
			r.mu.Lock()
			delete(r.progress, id)
			delete(r.listens, id)
			r.mu.Unlock()
			cancel(errAnswered)
			left()
			<-r.calls
			answered()
		}()
		if err := r.call(traced, m); err != nil {
			r.log.WarnContext(ctx, "client not answered", slog.Any("error", err))
		}
	})
	<-sent
	return nil
}

// call sends a request and writes what answers it.
func (r *relay) call(ctx context.Context, m *wire.Message) error {
	resp, err := r.cfg.Door.do(ctx, http.MethodPost, r.path, r.describe(m), m.Line())
	if err != nil {
		return r.answerFailure(m, r.unlessCancelled(ctx, err))
	}
	defer func() { resp.Body.Close() }()
	r.lost(ctx, resp)
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusOK && kind == "text/event-stream":
		return r.events(ctx, m, resp)
	case kind == "application/json":
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxLine+1))
		if err == nil && len(text) > maxLine {
			err = fmt.Errorf("the answer is longer than %d bytes", maxLine)
		}
		if err != nil {
			return r.answerFailure(m, r.unlessCancelled(ctx, err))
		}
		answer, err := wire.Open(text)
		if err != nil || answer.Kind != wire.Response || string(answer.ID.Text) != string(m.ID.Text) && !answer.Failed {
			return r.answerFailure(m, errors.New("the sidecar gave an answer that cannot be understood"))
		}
		if string(answer.ID.Text) != string(m.ID.Text) {
			return r.write(answer.Line(wire.Edit{Old: answer.ID, New: m.ID.Text}))
		}
		r.note(ctx, m, &answer, resp.Header)
		return r.write(answer.Line())
	default:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText)) // what there is of it
		return r.answerFailure(m, fmt.Errorf("the sidecar answered %s: %s", resp.Status, text))
	}
}

// events writes the messages of a stream that answers m, and resumes it where it
// broke off, as long as something more comes of that.
func (r *relay) events(ctx context.Context, m *wire.Message, resp *http.Response) error {
	for {
		answered, last, err := r.pass(ctx, m, resp)
		resp.Body.Close()
		switch {
		case answered:
			return err
		case ctx.Err() != nil || last == "":
			return r.answerFailure(m, r.unlessCancelled(ctx, fmt.Errorf("the answer broke off: %w", err)))
		}
		h := r.header()
		h.Set(headerEvent, last)
		var again error
		if resp, again = r.cfg.Door.do(ctx, http.MethodGet, r.path, h, nil); again != nil {
			return r.answerFailure(m, r.unlessCancelled(ctx, again))
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return r.answerFailure(m, fmt.Errorf("the answer broke off, and cannot be resumed: %s", resp.Status))
		}
	}
}

// pass writes the messages of one stream. answered says that m was answered;
// err is then why that could not be written. last is after what the stream can be
// resumed; empty if it cannot, or if it said nothing.
func (r *relay) pass(ctx context.Context, m *wire.Message, resp *http.Response) (answered bool, last string, err error) {
	var reader sse.Reader
	reader.Reset(resp.Body, maxLine)
	for {
		event, err := reader.Next()
		if err != nil {
			return false, last, err
		}
		if event.ID != "" {
			last = event.ID
		}
		if len(event.Data) == 0 || event.Name != "" && event.Name != "message" {
			continue
		}
		got, err := wire.Open(event.Data)
		if err != nil {
			r.log.WarnContext(ctx, "event dropped: it is no message")
			continue
		}
		final := m != nil && got.Kind == wire.Response && (string(got.ID.Text) == string(m.ID.Text))
		if final {
			r.note(ctx, m, &got, resp.Header)
		}
		if err := r.write(got.Line()); err != nil || final {
			return true, last, err
		}
	}
}

// note remembers what an answer says of all that follows.
func (r *relay) note(ctx context.Context, m, answer *wire.Message, h http.Header) {
	switch {
	case answer.Failed:
	case m.Method == "tools/list":
		r.learn(answer.Text)
	case m.Method == "initialize":
		r.mu.Lock()
		r.session, r.version = h.Get(headerSession), answer.Version.String()
		r.mu.Unlock()
	case m.Method == "server/discover":
		r.log.DebugContext(ctx, "server discovered", slog.String("server", r.cfg.Server))
	}
}

// lost forgets the session if the sidecar says that it is over.
func (r *relay) lost(ctx context.Context, resp *http.Response) {
	if resp.StatusCode != http.StatusNotFound || resp.Request == nil {
		return
	}
	id := resp.Request.Header.Get(headerSession)
	r.mu.Lock()
	over := id != "" && r.session == id
	if over {
		r.session, r.version = "", ""
	}
	r.mu.Unlock()
	if over {
		r.log.WarnContext(ctx, "MCP session lost: the sidecar or the server was started anew")
		r.stopListening()
	}
}

// cancel passes a cancellation on and ends what the call has open.
func (r *relay) cancel(ctx context.Context, m *wire.Message) error {
	var err error
	if _, version := r.state(); version != "" && version < stateless {
		err = r.tell(ctx, m)
	}
	r.mu.Lock()
	cancel := r.progress[string(m.Cancelled.Text)]
	r.mu.Unlock()
	if cancel != nil {
		cancel(errCancelled)
	}
	return err
}

// tell sends a notification or a response.
func (r *relay) tell(ctx context.Context, m *wire.Message) error {
	resp, err := r.cfg.Door.do(ctx, http.MethodPost, r.path, r.describe(m), m.Line())
	if err != nil {
		r.log.WarnContext(ctx, "message not passed on", slog.String("method", m.Method), slog.Any("error", err))
		return nil
	}
	defer resp.Body.Close()
	r.lost(ctx, resp)
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText)) // what there is of it
	if resp.StatusCode/100 != 2 {
		r.log.WarnContext(ctx, "message refused", slog.String("method", m.Method), slog.String("status", resp.Status), slog.String("answer", string(text)))
	}
	if session, _ := r.state(); m.Method == "notifications/initialized" && session != "" {
		r.startListening(ctx)
	}
	return nil
}

// unlessCancelled returns why the call of ctx ended if that was by the client,
// and otherwise err.
func (r *relay) unlessCancelled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errCancelled) || errors.Is(cause, errQuit) {
		return cause
	}
	return err
}

// answerFailure answers a request that cannot be passed on. Nobody waits for the
// answer to what was cancelled, or to anything else than a request.
func (r *relay) answerFailure(m *wire.Message, err error) error {
	if m.Kind != wire.Request || errors.Is(err, errCancelled) || errors.Is(err, errQuit) && m.Method == "subscriptions/listen" {
		return nil
	}
	return r.fail(m.ID.Text, codeInternal, err.Error())
}

// fail answers a request with an error. No id is null.
func (r *relay) fail(id []byte, code int, problem string) error {
	line := []byte(`{"jsonrpc":"2.0","id":`)
	if id == nil {
		id = []byte("null")
	}
	line = append(append(line, id...), `,"error":{"code":`...)
	line = append(strconv.AppendInt(line, int64(code), 10), `,"message":`...)
	line = strictjson.Append(line, problem)
	return r.write(append(line, "}}"...))
}
