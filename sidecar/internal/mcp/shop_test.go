package mcp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// shop is a server whose answers a test changes while it runs. It keeps what it
// was asked.
type shop struct {
	mu      sync.Mutex
	tools   []string // items of tools/list, as they are served
	pages   int      // how many items there are on a page; 0 is all
	answers map[string]string
	asked   []string // "method" or "method id" of its own requests, in order
	bodies  []string
	headers []http.Header
	down    bool
	pushes  chan string // sent on streams that listen
}

func newShop(tools ...string) *shop {
	return &shop{tools: tools, answers: map[string]string{}, pushes: make(chan string, 10)}
}

func (s *shop) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// count returns how often it was asked by method.
func (s *shop) count(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, asked := range s.asked {
		if asked == method {
			n++
		}
	}
	return n
}

func (s *shop) last() (body string, header http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies[len(s.bodies)-1], s.headers[len(s.headers)-1]
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct{ Cursor string }
	}
	_ = json.Unmarshal(body, &m)
	s.mu.Lock()
	s.asked, s.bodies, s.headers = append(s.asked, m.Method), append(s.bodies, string(body)), append(s.headers, r.Header.Clone())
	result, given := s.answers[m.Method]
	down, tools, next := s.down, s.tools, ""
	if s.pages > 0 {
		var at int
		_, _ = fmt.Sscan(m.Params.Cursor, &at)
		end := min(len(tools), at+s.pages)
		if tools = tools[at:end]; end < len(s.tools) {
			next = fmt.Sprintf(`,"nextCursor":"%d"`, end)
		}
	}
	s.mu.Unlock()
	switch {
	case down:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case r.Method == http.MethodGet || m.Method == "subscriptions/listen":
		s.listen(w, r, m.ID)
		return
	case m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
		return
	case given:
	case m.Method == "tools/list":
		result = `{"tools":[` + strings.Join(tools, ",") + `]` + next + `}`
	case m.Method == "initialize":
		w.Header().Set("Mcp-Session-Id", "s1")
		result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"resources":{"subscribe":true},"logging":{}},"serverInfo":{"name":"shop","version":"1"}}`
	default:
		result = `{"content":[{"type":"text","text":"done"}]}`
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
}

func (s *shop) listen(w http.ResponseWriter, r *http.Request, id json.RawMessage) {
	w.Header().Set("Content-Type", "text/event-stream")
	if id != nil {
		_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s},\"notifications\":{}}}\n\n", id)
	}
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case text := <-s.pushes:
			_, _ = io.WriteString(w, "data: "+text+"\n\n")
			w.(http.Flusher).Flush()
		}
	}
}

// item is a tool's definition, as a server lists it.
func item(name, description string) string {
	return `{"name":"` + name + `","description":"` + description + `","inputSchema":{"type":"object","properties":{"name":{"type":"string","x-mcp-header":"Who"},"n":{"type":"integer","x-mcp-header":"Count"},"to":{"type":"object","properties":{"city":{"type":"string","x-mcp-header":"City"}}}},"additionalProperties":true}}`
}

// pin is the catalogue's tool whose definition was accepted.
func pin(t *testing.T, name, definition string) *grantv1.Tool {
	t.Helper()
	digest, canonical, err := schema.Digest([]byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	input, err := schema.InputSchema(canonical)
	if err != nil {
		t.Fatal(err)
	}
	return &grantv1.Tool{
		Name:   "namespaces/default/servers/support/tools/" + name,
		Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED,
		Digest: digest, InputSchema: input, Definition: (*structpb.Struct)(nil),
	}
}

// stream opens a stream that listens and returns what is heard on it, without
// comments.
func (a *agent) stream(ctx context.Context, t *testing.T, method, body string, header ...string) <-chan string {
	t.Helper()
	resp := a.send(ctx, t, method, body, header...)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("stream: %s", resp.Status)
	}
	heard := make(chan string, 100)
	t.Cleanup(func() { resp.Body.Close() })
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				heard <- text
			}
		}
	}()
	return heard
}

// hears waits until something is heard.
func hears(t *testing.T, heard <-chan string) string {
	t.Helper()
	select {
	case text := <-heard:
		return text
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was heard")
		return ""
	}
}

// call is a tools/call with these arguments.
func call(id int, name, arguments string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, id, name, arguments)
}

// text returns the body of an answer.
func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
