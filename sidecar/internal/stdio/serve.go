package stdio

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio/wire"
)

// The headers of MCP that are understood here.
const (
	headerSession = "Mcp-Session-Id"
	headerVersion = "Mcp-Protocol-Version"
)

// stateless is the first version of the protocol that has no sessions. Versions
// are dates, and compare as text.
const stateless = "2026-07-28"

// RoundTrip serves req in the place of server, which must be one to start. It
// returns when there is an answer to read, or when the context of req has ended,
// which also cancels what is still in progress. pass is called directly before
// every write(2) of the request to the server, and again after each wait for
// room; what it returns keeps the rest from being written and is the error. A
// server that was sent a part of a message and may not get the rest is ended.
//
// An error that is not the context's or that of pass has a method Sentence, for
// the agent. req must have a body that is one JSON-RPC message if it is a POST.
func (l *Launcher) RoundTrip(req *http.Request, server *grant.Server, pass func() error) (*http.Response, error) {
	session := req.Header.Get(headerSession)
	var p *process
	if session != "" {
		if p = l.ofSession(server, session); p == nil {
			return plain(req, http.StatusNotFound, "This session is over: begin a new one."), nil
		}
	}
	switch {
	case req.Method == http.MethodPost:
		return l.post(req, server, p, pass)
	case p == nil:
		return plain(req, http.StatusMethodNotAllowed, "There is nothing to listen to, or to end, without a session."), nil
	case req.Method == http.MethodGet:
		return p.listen(req), nil
	default:
		p.stop(errDeleted)
		return plain(req, http.StatusNoContent, ""), nil
	}
}

// post serves a message of the agent. p is the process of its session, or nil.
func (l *Launcher) post(req *http.Request, server *grant.Server, p *process, pass func() error) (*http.Response, error) {
	text, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	m, err := wire.Open(text)
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	ctx := req.Context()
	begins := p == nil && m.Kind == wire.Request && m.Method == "initialize"
	switch {
	case p != nil:
	case begins:
		p, err = l.forSession(ctx, server)
	case m.Kind == wire.Response:
		if p = l.shares(server); p == nil {
			return plain(req, http.StatusNotFound, "Who asked this has ended."), nil
		}
	case max(req.Header.Get(headerVersion), m.Version.String()) >= stateless:
		p, err = l.forAll(ctx, server)
	default:
		return plain(req, http.StatusBadRequest, "The header Mcp-Session-Id is missing: begin a session with initialize."), nil
	}
	if err != nil {
		return nil, err
	}
	resp, err := p.exchange(req, &m, pass)
	if begins {
		if err != nil {
			p.stop(errDeleted)
			return nil, err
		}
		resp.Header.Set(headerSession, p.session)
	}
	return resp, err
}

// exchange sends a message to the process and returns what it answers.
func (p *process) exchange(req *http.Request, m *wire.Message, pass func() error) (*http.Response, error) {
	ctx := req.Context()
	p.touch()
	if m.Kind != wire.Request {
		line, ok := p.calls.line(m)
		if !ok {
			return plain(req, http.StatusAccepted, ""), nil // what it is about is over
		}
		if err := p.write(ctx, line, pass); err != nil {
			return nil, err
		}
		return plain(req, http.StatusAccepted, ""), nil
	}
	c, line, err := p.calls.begin(m)
	if err != nil {
		return nil, err
	}
	if err := p.write(ctx, line, pass); err != nil {
		p.calls.drop(c)
		return nil, err
	}
	// From here on the call is cancelled when the agent goes, or its permit.
	stop := context.AfterFunc(ctx, func() { p.cancel(c) })
	leave := func() {
		stop()
		p.cancel(c)
	}
	first, err := c.out.get(ctx.Done(), func() error { return context.Cause(ctx) })
	if err != nil {
		leave()
		return nil, err
	}
	if first.final {
		leave()
		p.answered(c, first)
		resp := answer(req, http.StatusOK, "application/json", io.NopCloser(bytes.NewReader(first.text)))
		resp.ContentLength = int64(len(first.text))
		return resp, nil
	}
	body := newEvents(ctx, c.out, leave)
	body.add(first)
	return answer(req, http.StatusOK, "text/event-stream", body), nil
}

// answered is told how a call was answered at once.
func (p *process) answered(c *call, e entry) {
	switch {
	case !e.failed:
	case c.method == "initialize":
		p.stop(errRejected) // there is no session
	case c.method == "server/discover" && p.session == "" && p.calls.idle():
		// It does not know the version that has no sessions; nobody else will use
		// this process.
		p.stop(errRejected)
	}
}

// listen serves a stream of what the server says unasked.
func (p *process) listen(req *http.Request) *http.Response {
	s := newStream()
	p.calls.listen(s)
	return answer(req, http.StatusOK, "text/event-stream", newEvents(req.Context(), s, func() { p.calls.leave(s) }))
}

// plain is an answer that is no message.
func plain(req *http.Request, status int, text string) *http.Response {
	return answer(req, status, "", io.NopCloser(strings.NewReader(text)))
}
