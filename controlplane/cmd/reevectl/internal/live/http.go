package live

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// tapped is a transport that adds a header, bounds answers, and shows those to
// tools/list to seen as they are read.
type tapped struct {
	next   http.RoundTripper
	header http.Header
	seen   *lists
}

// RoundTrip implements http.RoundTripper.
func (t *tapped) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for key, values := range t.header {
		r.Header[key] = values
	}
	lists := false
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close() // it was read whole
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var request struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		if json.Unmarshal(body, &request) == nil && request.Method == "tools/list" {
			lists = true
			t.seen.ask(string(request.ID))
		}
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body := &tap{Reader: &io.LimitedReader{R: resp.Body, N: maxAnswer}, Closer: resp.Body}
	if lists {
		body.see = t.see
		body.events = strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	}
	resp.Body = body
	return resp, nil
}

// see looks at a text for an answer.
func (t *tapped) see(text []byte) {
	var answer struct {
		ID     json.RawMessage `json:"id"`
		Result json.RawMessage `json:"result"`
	}
	if json.Unmarshal(text, &answer) == nil {
		t.seen.answer(string(answer.ID), answer.Result)
	}
}

// tap is a body that shows what it carries: the data of each event, or at its end
// all of it.
type tap struct {
	io.Reader
	io.Closer
	see    func([]byte)
	events bool

	kept []byte
}

// Read implements io.Reader.
func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if t.see == nil {
		return n, err
	}
	t.kept = append(t.kept, p[:n]...)
	for t.events {
		line, rest, ok := bytes.Cut(t.kept, []byte("\n"))
		if !ok {
			break
		}
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			t.see(data)
		}
		t.kept = rest
	}
	if !t.events && err != nil {
		t.see(t.kept)
	}
	return n, err
}

// Close implements io.Closer.
func (t *tap) Close() error {
	if t.see != nil && !t.events {
		t.see(t.kept)
	}
	return t.Closer.Close()
}
