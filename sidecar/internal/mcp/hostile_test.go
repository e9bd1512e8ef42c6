package mcp_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
)

// echo is a server that answers every request with its own text, and counts
// what reaches it.
type echo struct {
	reached atomic.Int64
	last    atomic.Value // string
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.reached.Add(1)
	body, _ := io.ReadAll(r.Body)
	e.last.Store(string(body))
	var m struct {
		ID     json.RawMessage
		Method string
	}
	_ = json.Unmarshal(body, &m)
	if m.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if m.Method == "initialize" {
		w.Header().Set("Mcp-Session-Id", "s1")
	}
	w.Header().Set("Content-Type", "application/json")
	headers, _ := json.Marshal(r.Header)
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"headers":%s,"exact":12345678901234567890.10}}`, m.ID, headers)
}

const callGreet = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","arguments":{"name":"Ann"}}}`

// P1: what cannot be read in one way only is refused and reaches nobody.
func TestHostileMessages(t *testing.T) {
	upstream := &echo{}
	g := newRig(t, upstream, allow("all", "tool support/*"))
	nested := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for _, c := range []struct {
		name, body string
		header     []string
		status     int
		want       string
	}{
		{"empty", ``, nil, 400, `"code":-32700`},
		{"not JSON", `{"jsonrpc":`, nil, 400, `"code":-32700`},
		{"trailing data", callGreet + `{}`, nil, 400, "more than one value"},
		{"not an object", `"ping"`, nil, 400, "not a JSON object"},
		{"batch", `[` + callGreet + `]`, nil, 400, "batches are not accepted"},
		{"empty batch", `[]`, nil, 400, "batches are not accepted"},
		{"duplicate key", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"greet"}}`, nil, 400, "duplicate"},
		{"duplicate key, escaped", `{"jsonrpc":"2.0","id":1,"method":"ping","m\u0065thod":"tools/call","params":{"name":"greet"}}`, nil, 400, "duplicate"},
		{"duplicate argument", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","arguments":{"a":1,"a":2}}}`, nil, 400, "duplicate"},
		{"method in another case", `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`, nil, 400, "differs only in case"},
		{"long s", `{"jsonrpc":"2.0","id":1,"method":"ping","param\u017f":{"name":"greet"}}`, nil, 400, "differs only in case"},
		{"name in another case", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","NAME":"hidden"}}`, nil, 200, "differs from another only in case"},
		{"argument in another case", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","arguments":{"amount":1,"Amount":1000}}}`, nil, 200, "differs from another only in case"},
		{"argument in another case, further in", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","arguments":{"refunds":[{"amount":1,"Amount":1000}]}}}`, nil, 200, "differs from another only in case"},
		{"parameter of another method in another case", `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"name":"a","NAME":"b"}}}`, nil, 200, "differs from another only in case"},
		{"request and response", `{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, nil, 400, "not both"},
		{"result and error", `{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}`, nil, 400, "not both"},
		{"neither", `{"jsonrpc":"2.0","id":1}`, nil, 400, "a method, a result or an error"},
		{"unsolicited response", `{"jsonrpc":"2.0","id":1,"result":{}}`, nil, 400, "Nobody waits for this response"},
		{"null id", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, nil, 400, "id must be"},
		{"fractional id", `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, nil, 400, "id must be"},
		{"object id", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, nil, 400, "id must be"},
		{"endless id", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 1<<20) + `","method":"ping"}`, nil, 400, "id must be"},
		{"version 1", `{"id":1,"method":"ping"}`, nil, 400, "jsonrpc must be"},
		{"empty method", `{"jsonrpc":"2.0","id":1,"method":""}`, nil, 400, "method must be"},
		{"params as array", `{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}`, nil, 400, "params must be an object"},
		{"no name", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`, nil, 200, `"reason":"not_granted"`},
		{"name not a string", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["greet"]}}`, nil, 200, "must be a string"},
		{"arguments not an object", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","arguments":[]}}`, nil, 200, "arguments must be an object"},
		{"huge integer", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","arguments":{"a":9007199254740993}}}`, nil, 400, `"code":-32700`},
		{"huge number", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","arguments":{"a":1e999}}}`, nil, 400, `"code":-32700`},
		{"lone surrogate", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet\ud800"}}`, nil, 400, `"code":-32700`},
		{"invalid UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"greet\xff\"}}", nil, 400, `"code":-32700`},
		{"too deep", `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":` + nested + `}}`, nil, 400, `"code":-32700`},
		{"too many subscriptions", `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":[` + strings.Repeat(`"a",`, 300) + `"a"]}}}`, nil, 200, "too many"},
		{"unknown tool", strings.Replace(callGreet, "greet", "nowhere", 1), nil, 200, `"reason":"unknown_tool"`},
		{"unknown method", `{"jsonrpc":"2.0","id":1,"method":"admin/reset"}`, nil, 200, `"reason":"not_granted"`},
		{"unknown notification", `{"jsonrpc":"2.0","method":"notifications/admin"}`, nil, 403, `"reason":"not_granted"`},
		{"case matters in methods", `{"jsonrpc":"2.0","id":1,"method":"Tools/List"}`, nil, 200, `"reason":"not_granted"`},

		{"header names another method", callGreet, []string{"Mcp-Method", "tools/list"}, 400, `"code":-32020`},
		{"header names another tool", callGreet, []string{"Mcp-Name", "hidden"}, 400, `"code":-32020`},
		{"header twice", callGreet, []string{"Mcp-Name", "greet", "Mcp-Name", "hidden"}, 400, `"code":-32020`},
		{"encoded header names another tool", callGreet, []string{"Mcp-Name", "=?base64?aGlkZGVu?="}, 400, `"code":-32020`},
		{"header without name in body", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, []string{"Mcp-Name", "greet"}, 400, `"code":-32020`},
		{"header names what nothing is called", `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"":"greet"}}`, []string{"Mcp-Name", "greet"}, 400, `"code":-32020`},
		{"header names another version", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, []string{"Mcp-Protocol-Version", "2025-11-25"}, 400, `"code":-32020`},
		{"header says another argument", callGreet, []string{"Mcp-Param-Name", "Bob"}, 400, `"code":-32020`},

		{"foreign session", callGreet, []string{"Mcp-Session-Id", "stolen"}, 404, "was not begun here"},
		{"foreign Host", callGreet, []string{"Host", "evil.example:7070"}, 403, "Host must be"},
		{"Host that looks local", callGreet, []string{"Host", "localhost.evil.example"}, 403, "Host must be"},
		{"foreign Origin", callGreet, []string{"Origin", "https://evil.example"}, 403, "Origin is not"},
		{"null Origin", callGreet, []string{"Origin", "null"}, 403, "Origin is not"},
		{"no secret", callGreet, []string{"Authorization", ""}, 401, "Present the local secret"},
		{"wrong secret", callGreet, []string{"Authorization", "", "Authorization", "Bearer wrong"}, 401, "not the sidecar's local secret"},
		{"two secrets", callGreet, []string{"Authorization", "Bearer wrong"}, 401, "Present the local secret"},
		{"Basic", callGreet, []string{"Authorization", "", "Authorization", "Basic " + secret}, 401, "not the sidecar's local secret"},
		{"not JSON by type", callGreet, []string{"Content-Type", "", "Content-Type", "text/plain"}, 415, "Content-Type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := upstream.reached.Load()
			status, body := g.post(t, c.body, c.header...)
			if status != c.status || !strings.Contains(body, c.want) {
				t.Errorf("got %d %s, want %d with %s", status, body, c.status, c.want)
			}
			if !json.Valid([]byte(body)) {
				t.Errorf("answer is not JSON: %s", body)
			}
			if n := upstream.reached.Load() - before; n != 0 {
				t.Errorf("reached the server %d times", n)
			}
		})
	}
	for _, line := range g.records.all() {
		if strings.HasSuffix(line, " granted") {
			t.Errorf("a hostile message was allowed: %q", line)
		}
	}
}

// P4 and design 7: what is forwarded is written from what was decided, and
// carries no credential of the agent.
func TestForwardedAsDecided(t *testing.T) {
	upstream := &echo{}
	g := newRig(t, upstream, allow("all", "tool support/*"))
	body := " {\"params\" : {\"arguments\": {\"b\":1.0, \"a\": \"\\u0041\"},\"name\":\"greet\", \"x\":[1e2,null]},\n \"method\":\"tools/call\",\"id\":\"a/1\",\"jsonrpc\":\"2.0\", \"extra\":true}"
	status, answer := g.post(t, body,
		"Cookie", "session=1", "Proxy-Authorization", "Basic eA==", "X-Api-Key", "k", "Forwarded", "for=1", "Origin", "http://localhost:1",
		"Mcp-Method", "tools/call", "Mcp-Name", "=?base64?Z3JlZXQ=?=", "Mcp-Param-Region", "A", "Traceparent", "00-1-2-3")
	if status != http.StatusOK {
		t.Fatalf("got %d %s", status, answer)
	}
	want := `{"params":{"arguments":{"b":1,"a":"A"},"name":"greet","x":[100,null]},"method":"tools/call","id":"a/1","jsonrpc":"2.0","extra":true}`
	if got := upstream.last.Load(); got != want {
		t.Errorf("forwarded %s, want %s", got, want)
	}
	for _, header := range []string{"Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "Forwarded", "Origin", secret} {
		if strings.Contains(answer, header) {
			t.Errorf("the server got %s: %s", header, answer)
		}
	}
	for _, header := range []string{`"Mcp-Method":["tools/call"]`, `"Mcp-Name":["=?base64?Z3JlZXQ=?="]`, `"Mcp-Param-Region":["A"]`, `"Traceparent":["00-1-2-3"]`, `"exact":12345678901234567890.10`} {
		if !strings.Contains(answer, header) {
			t.Errorf("lost %s: %s", header, answer)
		}
	}
}

// P3: no record, no call.
func TestNoRecordNoCall(t *testing.T) {
	upstream := &echo{}
	g := newRig(t, upstream, allow("all", "tool support/*"))
	g.records.refuse(true)
	if _, body := g.post(t, callGreet); !strings.Contains(body, `"reason":"unavailable"`) {
		t.Errorf("got %s", body)
	}
	if n := upstream.reached.Load(); n != 0 {
		t.Errorf("reached the server %d times", n)
	}
	g.records.refuse(false)
	if _, body := g.post(t, callGreet); !strings.Contains(body, `"result"`) {
		t.Errorf("got %s", body)
	}
}

func TestLongBodies(t *testing.T) {
	g := newRig(t, &echo{}, allow("all", "tool support/*"))
	for name, body := range map[string]io.Reader{
		"announced": strings.NewReader(strings.Repeat(" ", 100<<20)),
		"chunked":   io.LimitReader(spaces{}, 100<<20),
	} {
		if status, answer := g.do(t, http.MethodPost, body); status != http.StatusRequestEntityTooLarge && status != 0 {
			t.Errorf("%s: got %d %s, want 413 or a closed connection", name, status, answer)
		}
	}
	if status, answer := g.post(t, callGreet); status != http.StatusOK {
		t.Errorf("after: %d %s", status, answer)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// dial opens a bare connection to the front door.
func (g *rig) dial(t *testing.T) net.Conn {
	t.Helper()
	address := strings.TrimSuffix(strings.TrimPrefix(g.url, "http://"), "/mcp/support")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// An agent that never ends its message is not waited for, and takes no place
// from the next.
func TestSlowBody(t *testing.T) {
	upstream := httptest.NewServer(&echo{})
	defer upstream.Close()
	g := newRigAt(t, upstream.URL, func(c *mcp.Config) {
		c.BodyTimeout = 50 * time.Millisecond
		c.MaxRequests = 1
	}, allow("all", "tool support/*"))
	conn := g.dial(t)
	_, _ = fmt.Fprintf(conn, "POST /mcp/support HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", secret)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status = %d, want 408", resp.StatusCode)
	}
	if status, answer := g.post(t, callGreet); status != http.StatusOK {
		t.Errorf("after: %d %s", status, answer)
	}
}

// More than the limit is told so, at once.
func TestOverload(t *testing.T) {
	held := make(chan struct{})
	arrived := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-held
		(&echo{}).ServeHTTP(w, r)
	}))
	defer upstream.Close()
	g := newRigAt(t, upstream.URL, func(c *mcp.Config) { c.MaxRequests = 1 }, allow("all", "tool support/*"))
	done := make(chan string, 1)
	go func() {
		_, body := g.post(t, callGreet)
		done <- body
	}()
	<-arrived
	if status, body := g.post(t, callGreet); status != http.StatusServiceUnavailable || !strings.Contains(body, `"reason":"overloaded"`) {
		t.Errorf("got %d %s", status, body)
	}
	close(held)
	if body := <-done; !strings.Contains(body, `"result"`) {
		t.Errorf("the first: %s", body)
	}
}

// A half-open connection: the agent is gone without a word in the middle of a
// call. The server's side ends, and the record says so.
func TestAgentGoesAway(t *testing.T) {
	ended := make(chan struct{})
	arrived := make(chan struct{})
	g := newRig(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		close(arrived)
		<-r.Context().Done()
		close(ended)
	}), allow("all", "tool support/*"))
	conn := g.dial(t)
	_, _ = fmt.Fprintf(conn, "POST /mcp/support HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", secret, len(callGreet), callGreet)
	<-arrived
	conn.Close()
	<-ended
	g.records.await(t, "instance-1 CANCELLED")
}
