package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// A shop is an MCP server of the revision without sessions that can turn on its
// callers: what it says of its tools can be changed while it runs. It accounts
// for every call that reaches it.
type shop struct {
	url string

	mu    sync.Mutex
	tools []string // items of tools/list, as JSON
	calls []string // the params of each tools/call, as they came
}

// The shop's tools as they are at first. pay does not close its schema, as most
// do not.
const (
	payTool = `{"name":"pay","description":"Pays somebody.","inputSchema":{"type":"object",` +
		`"properties":{"to":{"type":"string"},"amount":{"type":"integer"}},"required":["to","amount"]}}`
	noteTool = `{"name":"note","description":"Notes something down.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}}`
	askTool  = `{"name":"ask","description":"Asks before it does.","inputSchema":{"type":"object","properties":{"what":{"type":"string"}}}}`
	wipeTool = `{"name":"wipe","description":"Removes everything.","inputSchema":{"type":"object"}}`
)

// newShop starts a shop that ends with the test.
func newShop(t *testing.T, tools ...string) *shop {
	t.Helper()
	s := &shop{tools: tools}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// lists changes what the shop says of its tools.
func (s *shop) lists(tools ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tools = tools
}

// taken returns the calls that reached the shop since it was last asked.
func (s *shop) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *shop) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	if err != nil || json.Unmarshal(body, &m) != nil {
		http.Error(w, "what?", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, s.answer(m.Method, m.Params)) // who asked has gone, if it fails
}

func (s *shop) answer(method string, params json.RawMessage) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch method {
	case "server/discover":
		return `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"shop","version":"1"}}`
	case "tools/list":
		return `{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[` + strings.Join(s.tools, ",") + `]}`
	case "tools/call":
		s.calls = append(s.calls, string(params))
		var p struct {
			Name         string          `json:"name"`
			RequestState string          `json:"requestState"`
			Responses    json.RawMessage `json:"inputResponses"`
		}
		if json.Unmarshal(params, &p) == nil && p.Name == "ask" && p.RequestState == "" {
			return `{"resultType":"input_required","requestState":"the shop's own words",` +
				`"inputRequests":{"sure":{"method":"elicitation/create","params":{"mode":"form","message":"Sure?",` +
				`"requestedSchema":{"type":"object","properties":{"yes":{"type":"boolean"}}}}}}}`
		}
		return `{"resultType":"complete","content":[{"type":"text","text":"done"}]}`
	default:
		return `{}`
	}
}

// shopYAML is the shop in the catalogue, its tools pinned, and grants.
func shopYAML(id, url, grants string, tools ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "kind: Server\nname: namespaces/%s/servers/%s\nhttp:\n  url: %s\n", stack.Namespace, id, url)
	for _, tool := range tools {
		var named struct{ Name string }
		_ = json.Unmarshal([]byte(tool), &named) // a constant of this file
		fmt.Fprintf(&b, "---\nkind: Tool\nname: namespaces/%s/servers/%s/tools/%s\neffect: WRITE\nreach: CLOSED\ndefinition: %s\n",
			stack.Namespace, id, named.Name, tool)
	}
	return b.String() + grants
}

// shopGrant is an allow for the example's agent; more is YAML of the grant.
func shopGrant(name, target, more string) string {
	return fmt.Sprintf("---\nkind: Grant\nname: namespaces/%s/grants/%s\neffect: ALLOW\nsubjects:\n  agents: [%s]\n"+
		"targets:\n  - %s\nexpireTime: \"2035-01-01T00:00:00Z\"\n%s", stack.Namespace, name, stack.Agent, target, more)
}
