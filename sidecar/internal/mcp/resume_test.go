package mcp_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"go.opentelemetry.io/otel/metric/noop"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sse"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
)

// An agent is a client of which every byte is known.
type agent struct {
	rig       *rig
	transport *http.Transport
	session   string
}

func newAgent(t *testing.T, g *rig) *agent {
	t.Helper()
	a := &agent{rig: g, transport: &http.Transport{}}
	t.Cleanup(a.transport.CloseIdleConnections)
	return a
}

// begin begins a session of the last revision that has them.
func (a *agent) begin(t *testing.T) {
	t.Helper()
	resp := a.send(t.Context(), t, http.MethodPost, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"a","version":"1"}}}`)
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if a.session = resp.Header.Get("Mcp-Session-Id"); a.session == "" {
		t.Fatalf("no session: %s", resp.Status)
	}
	resp = a.send(t.Context(), t, http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if resp.Body.Close(); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("initialized: %s", resp.Status)
	}
}

func (a *agent) send(ctx context.Context, t *testing.T, method, body string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, a.rig.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if a.session != "" {
		r.Header.Set("Mcp-Session-Id", a.session)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := a.transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// until reads events until one has text, and returns it.
func until(t *testing.T, resp *http.Response, text string) sse.Event {
	t.Helper()
	var reader sse.Reader
	reader.Reset(resp.Body, 1<<20)
	for {
		e, err := reader.Next()
		if err != nil {
			t.Fatalf("no event has %q: %v (%s)", text, err, resp.Status)
		}
		if strings.Contains(string(e.Data), text) {
			return e
		}
	}
}

const callWait = `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"wait","arguments":{},"_meta":{"progressToken":"p"}}}`

// P2: an answer that broke off can be resumed while the call is still granted,
// and only by the ids that this sidecar gave out. It is not another call: the one
// that may be made is used up by it.
func TestResume(t *testing.T) {
	desk := newDesk(t)
	handler := desk.handler(t, &sdk.StreamableHTTPOptions{EventStore: sdk.NewMemoryEventStore(nil)})
	var serving sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	q, err := quota.Open(filepath.Join(t.TempDir(), "quota"), time.Now, discard(), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	once := allow("wait", "tool support/wait")
	once.Uid, once.Limits = "wait", &grantv1.Limits{MaxCalls: 1}
	g := newRigAt(t, server.URL, func(c *mcp.Config) { c.Enforcer.Limit(q, nil) }, once)
	a := newAgent(t, g)
	a.begin(t)

	ctx, leave := context.WithCancel(t.Context())
	resp := a.send(ctx, t, http.MethodPost, callWait)
	event := until(t, resp, "waiting")
	if event.ID == "" {
		t.Fatal("the event has no id")
	}
	leave()
	resp.Body.Close()
	g.records.await(t, "instance-1 CANCELLED")
	serving.Wait() // until it knows that nobody reads, the server refuses whoever resumes
	close(desk.release)

	_, _, original, _ := cutID(event.ID)
	for name, id := range map[string]string{"the server's own id": original, "another stream": "9" + event.ID, "garbage": "x"} {
		resp := a.send(t.Context(), t, http.MethodGet, "", "Last-Event-Id", id)
		if resp.Body.Close(); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	resp = a.send(t.Context(), t, http.MethodGet, "", "Last-Event-Id", event.ID)
	if e := until(t, resp, `"id":9`); !strings.Contains(string(e.Data), "done") {
		t.Errorf("resumed: %s", e.Data)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil { // leaving earlier could be taken for giving up
		t.Fatal(err)
	}
	resp.Body.Close()
	g.records.await(t, "wait granted", "instance-2 OK")

	g.apply(t, []string{"namespaces/default/grants/wait"})
	resp = a.send(t.Context(), t, http.MethodGet, "", "Last-Event-Id", event.ID)
	text, _ := io.ReadAll(resp.Body)
	if resp.Body.Close(); resp.StatusCode != http.StatusForbidden || !strings.Contains(string(text), `"reason":"not_granted"`) {
		t.Errorf("after the revocation: %s %s", resp.Status, text)
	}
	g.records.await(t, "wait not_granted")
}

func cutID(tagged string) (stream, mac, event string, ok bool) {
	stream, rest, _ := strings.Cut(tagged, ".")
	mac, event, ok = strings.Cut(rest, ".")
	return stream, mac, event, ok
}

// P8: a stream that listens outlives a lapse of freshness, but nothing passes
// until it is over.
func TestListeningOverLapse(t *testing.T) {
	desk := newDesk(t)
	g := newRig(t, desk.handler(t, nil), allow("greet", "tool support/greet"))
	changed := make(chan struct{}, 10)
	s := g.client(t, &sdk.ClientOptions{ToolListChangedHandler: func(context.Context, *sdk.ToolListChangedRequest) {
		changed <- struct{}{}
	}})
	change := func() {
		desk.server.AddTool(&sdk.Tool{Name: "new", InputSchema: map[string]any{"type": "object"}}, nil)
	}
	change()
	<-changed
	g.replica.Lapse()
	if _, err := s.ListTools(t.Context(), nil); err == nil {
		t.Error("listed while stale")
	}
	g.replica.Extend(g.clock(), time.Hour, 0, time.Now())
	if _, err := s.ListTools(t.Context(), nil); err != nil {
		t.Errorf("after the lapse: %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; change() {
		select {
		case <-changed:
			return
		case <-time.After(50 * time.Millisecond):
			if time.Now().After(deadline) {
				t.Fatal("the stream hears nothing any more")
			}
		}
	}
}

// P2: a question that the server asked under a grant is not answered once that
// is gone; the server is told so.
func TestQuestionRevoked(t *testing.T) {
	desk := newDesk(t)
	g := newRig(t, desk.handler(t, nil), allow("ask", "tool support/ask"), allow("elicit", "method support/elicitation/create"))
	a := newAgent(t, g)
	a.begin(t)
	resp := a.send(t.Context(), t, http.MethodPost, `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"ask","arguments":{}}}`)
	defer resp.Body.Close()
	var reader sse.Reader
	reader.Reset(resp.Body, 1<<20)
	question, err := reader.Next()
	if err != nil || !strings.Contains(string(question.Data), "elicitation/create") {
		t.Fatalf("question: %s, %v", question.Data, err)
	}
	id := string(question.Data[strings.Index(string(question.Data), `"id":`)+5:])
	id, _, _ = strings.Cut(id, ",")
	g.apply(t, []string{"namespaces/default/grants/elicit"})
	const accept = `,"result":{"action":"accept","content":{}}}`
	answer := a.send(t.Context(), t, http.MethodPost, `{"jsonrpc":"2.0","id":`+id+accept)
	if answer.Body.Close(); answer.StatusCode != http.StatusForbidden {
		t.Errorf("answer: %s", answer.Status)
	}
	e, err := reader.Next()
	if err != nil || !strings.Contains(string(e.Data), "may no longer be asked") {
		t.Errorf("the tool went on with %s, %v", e.Data, err)
	}
	again := a.send(t.Context(), t, http.MethodPost, `{"jsonrpc":"2.0","id":`+id+accept)
	if again.Body.Close(); again.StatusCode != http.StatusBadRequest {
		t.Errorf("answer again: %s", again.Status)
	}
	g.records.await(t, "instance-2 CUT")
}

// A question that is withheld is answered to the server even in the middle of a
// stream that can be resumed.
func TestWithheldInResumableStream(t *testing.T) {
	desk := newDesk(t)
	g := newRig(t, desk.handler(t, &sdk.StreamableHTTPOptions{EventStore: sdk.NewMemoryEventStore(nil)}), allow("ask", "tool support/ask"))
	a := newAgent(t, g)
	a.begin(t)
	resp := a.send(t.Context(), t, http.MethodPost, `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"ask","arguments":{}}}`)
	defer resp.Body.Close()
	if e := until(t, resp, `"id":9`); !strings.Contains(string(e.Data), "may not be asked") {
		t.Errorf("answer: %s", e.Data)
	}
}

// P5: of resources that change, an agent hears of its own only.
func TestUpdatesOfOthers(t *testing.T) {
	g := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, uri := range []string{"secret://1", "ticket://1"} {
			_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\""+uri+"\"}}\n\n")
		}
	}), allow("tickets", "resource support/ticket://*"))
	if _, body := g.do(t, http.MethodGet, nil); !strings.Contains(body, "ticket://1") || strings.Contains(body, "secret") {
		t.Errorf("heard %s", body)
	}
}

// When the sidecar stops, streams that listen end, so that it need not wait for
// them.
func TestDrain(t *testing.T) {
	desk := newDesk(t)
	g := newRig(t, desk.handler(t, nil), allow("greet", "tool support/greet"))
	a := newAgent(t, g)
	a.begin(t)
	resp := a.send(t.Context(), t, http.MethodGet, "")
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("listen: %s", resp.Status)
	}
	if err := g.door.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream broke off: %v", err)
	}
}

// A session ends where it began, and nowhere else.
func TestSessionEnds(t *testing.T) {
	g := newRig(t, newDesk(t).handler(t, nil), allow("greet", "tool support/greet"))
	a := newAgent(t, g)
	a.begin(t)
	resp := a.send(t.Context(), t, http.MethodDelete, "")
	if resp.Body.Close(); resp.StatusCode != http.StatusNoContent {
		t.Errorf("delete: %s", resp.Status)
	}
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodPost} {
		resp := a.send(t.Context(), t, method, callGreet)
		if resp.Body.Close(); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s after delete: %s", method, resp.Status)
		}
	}
}

// A connection over a Unix socket needs the secret, but no particular Host.
func TestUnixSocket(t *testing.T) {
	upstream := httptest.NewServer(&echo{})
	defer upstream.Close()
	g := newRigAt(t, upstream.URL, func(*mcp.Config) {}, allow("all", "tool support/*"))
	conn := g.unix(t)
	_, _ = io.WriteString(conn, "POST /mcp/support HTTP/1.1\r\nHost: reeve\r\nAuthorization: Bearer "+secret+"\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n"+`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Errorf("status = %s", resp.Status)
	}
}
