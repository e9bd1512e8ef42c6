package launcher

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/internal/stdio/wire"
)

// The headers of MCP, and ours.
const (
	headerSession = "Mcp-Session-Id"
	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"
	headerParam   = "Mcp-Param-"
	headerEvent   = "Last-Event-Id"
	headerReeve   = "Reeve-Session"
)

// stateless is the first version of the protocol that has no sessions, and whose
// headers repeat what a message says. Versions are dates, and compare as text.
const stateless = "2026-07-28"

// header returns the headers that every message has.
func (r *relay) header() http.Header {
	h := make(http.Header)
	h.Set("Accept", "application/json, text/event-stream")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != "" {
		h.Set(headerSession, r.session)
	}
	if r.version != "" {
		h.Set(headerVersion, r.version)
	}
	if id := r.cfg.Session + r.opened; id != "" { // never both
		h.Set(headerReeve, id)
	}
	return h
}

// describe returns the headers of a message.
func (r *relay) describe(m *wire.Message) http.Header {
	h := r.header()
	if m.Kind == wire.Request && m.Method == "initialize" {
		h.Del(headerSession) // it begins another
		h.Del(headerVersion)
	}
	version := m.Version.String()
	if m.Kind == wire.Response || version < stateless {
		return h
	}
	h.Set(headerVersion, version)
	h.Set(headerMethod, m.Method)
	switch m.Method {
	case "tools/call", "prompts/get":
		h.Set(headerName, encode(m.Name.String()))
	case "resources/read":
		h.Set(headerName, encode(m.URI.String()))
	}
	if m.Method == "tools/call" {
		r.repeat(h, m)
	}
	return h
}

// encode returns text as it can stand in a header.
func encode(text string) string {
	plain := strings.TrimSpace(text) == text && !strings.HasPrefix(text, "=?base64?")
	for i := 0; i < len(text) && plain; i++ {
		plain = text[i] >= ' ' && text[i] <= '~'
	}
	if plain {
		return text
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(text)) + "?="
}

// A param is an argument of a tool that a header repeats.
type param struct {
	path   []string
	header string
}

// maxTools is how many tools' headers are remembered.
const maxTools = 4096

// learn remembers which arguments headers repeat, of an answer to tools/list.
func (r *relay) learn(text []byte) {
	if !strings.Contains(string(text), `"x-mcp-header"`) {
		return
	}
	var list struct {
		Result struct {
			Tools []struct {
				Name        string   `json:"name"`
				InputSchema property `json:"inputSchema"`
			} `json:"tools"`
		} `json:"result"`
	}
	if json.Unmarshal(text, &list) != nil {
		return // the client will see for itself
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range list.Result.Tools {
		if len(r.params) < maxTools {
			r.params[t.Name] = t.InputSchema.params(nil, nil, 0)
		}
	}
}

// A property is what matters here of a JSON schema.
type property struct {
	Header     json.RawMessage     `json:"x-mcp-header"`
	Properties map[string]property `json:"properties"`
}

// maxDepth is how deep in its arguments a header is looked for.
const maxDepth = 16

func (p property) params(dst []param, path []string, depth int) []param {
	if depth > maxDepth {
		return dst
	}
	for name, inner := range p.Properties {
		at := append(path[:len(path):len(path)], name)
		var header string
		if json.Unmarshal(inner.Header, &header) == nil && header != "" {
			dst = append(dst, param{at, header})
		}
		dst = inner.params(dst, at, depth+1)
	}
	return dst
}

// repeat sets the headers that repeat arguments of a call, as far as it is known
// which do.
func (r *relay) repeat(h http.Header, m *wire.Message) {
	r.mu.Lock()
	params := r.params[m.Name.String()]
	r.mu.Unlock()
	if len(params) == 0 {
		return
	}
	var call struct {
		Params struct {
			Arguments map[string]any `json:"arguments"`
		} `json:"params"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(m.Text)))
	decoder.UseNumber()
	if decoder.Decode(&call) != nil {
		return // the sidecar will say what is wrong
	}
	for _, p := range params {
		var v any = call.Params.Arguments
		for _, name := range p.path {
			inner, _ := v.(map[string]any)
			v = inner[name]
		}
		switch v := v.(type) {
		case string:
			h.Set(headerParam+p.header, encode(v))
		case bool:
			h.Set(headerParam+p.header, strconv.FormatBool(v))
		case json.Number:
			h.Set(headerParam+p.header, v.String())
		}
	}
}
