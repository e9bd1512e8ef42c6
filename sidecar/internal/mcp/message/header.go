package message

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// The headers of MCP, in Go's spelling. HeaderParam is how those begin that
// repeat an argument.
const (
	HeaderSession = "Mcp-Session-Id"
	HeaderVersion = "Mcp-Protocol-Version"
	HeaderMethod  = "Mcp-Method"
	HeaderName    = "Mcp-Name"
	HeaderParam   = "Mcp-Param-"
	HeaderEvent   = "Last-Event-Id"
)

// ParamState is the parameter, and the member of a result, by which a server
// has the agent keep what it must know when the agent asks again.
const ParamState = "requestState"

// Stateless is the first revision of the protocol without sessions, in which every
// message says what version it is of. Revisions compare as strings.
const Stateless = "2026-07-28"

// MetaVersion is where a message itself names its protocol version.
const MetaVersion = "io.modelcontextprotocol/protocolVersion"

// CheckHeaders reports how headers contradict the message they came with: what
// is decided is what the message says, and nobody on its way may be told
// otherwise. name is what the message is about; empty if nothing. schema is the
// input schema that was accepted of the tool that is called; empty if there is none.
func CheckHeaders(h http.Header, m *Message, name, schema string) *Error {
	for _, key := range [...]string{HeaderSession, HeaderVersion, HeaderMethod, HeaderName} {
		if len(h[key]) > 1 {
			return &Error{Code: CodeHeaderMismatch, Problem: "header " + key + " occurs more than once"}
		}
	}
	if v, ok := first(h, HeaderMethod); ok && v != m.Method {
		return mismatch(HeaderMethod, "method")
	}
	if v, ok := first(h, HeaderName); ok && v != name && decodeHeader(v) != name {
		return mismatch(HeaderName, "what the message is about")
	}
	if meta, ok := m.Params.Object("_meta"); ok {
		if version, ok := meta.String(MetaVersion); ok {
			if v, ok := first(h, HeaderVersion); ok && v != version {
				return mismatch(HeaderVersion, MetaVersion)
			}
		}
	}
	return checkParams(h, m, schema)
}

// checkParams checks the headers that repeat arguments. Which one repeats which
// is for the tool's schema to say. Where none was accepted, that is the server's
// to check, and it is enough that no header says what no argument does.
func checkParams(h http.Header, m *Message, schema string) *Error {
	var mirrored map[string][]string
	for key, values := range h {
		if !strings.HasPrefix(key, HeaderParam) {
			continue
		}
		args, _ := m.Params.Object("arguments")
		if len(values) != 1 {
			return mismatch(key, "any argument")
		}
		if schema == "" {
			if !says(args, decodeHeader(values[0])) {
				return mismatch(key, "any argument")
			}
			continue
		}
		if mirrored == nil {
			mirrored = mirrors(schema)
		}
		path, ok := mirrored[strings.ToLower(key[len(HeaderParam):])]
		if !ok || !saysExactly(at(args, path), decodeHeader(values[0])) {
			return mismatch(key, "the argument that the tool's schema has for it")
		}
	}
	return nil
}

// mirrors returns where in the arguments what headers repeat is, by the last part
// of their names in lower case: the properties of an input schema that x-mcp-header
// marks, reached by properties alone. A name that is used twice is none.
func mirrors(schema string) map[string][]string {
	paths := make(map[string][]string)
	v, err := strictjson.Parse([]byte(schema), strictjson.Limits{})
	o, _ := v.(*strictjson.Object)
	if err == nil {
		mirror(paths, o, nil)
	}
	for name, path := range paths {
		if path == nil {
			delete(paths, name)
		}
	}
	return paths
}

func mirror(paths map[string][]string, schema *strictjson.Object, under []string) {
	properties, _ := schema.Object("properties")
	for key, v := range properties.All() {
		property, _ := v.(*strictjson.Object)
		path := append(slices.Clip(under), key)
		if name, ok := property.String("x-mcp-header"); ok && name != "" {
			name = strings.ToLower(name)
			if _, twice := paths[name]; twice {
				path = nil
			}
			paths[name] = path
		}
		mirror(paths, property, append(slices.Clip(under), key))
	}
}

// at returns the value at a path of members.
func at(o *strictjson.Object, path []string) strictjson.Value {
	for _, key := range path[:len(path)-1] {
		o, _ = o.Object(key)
	}
	v, _ := o.Get(path[len(path)-1])
	return v
}

// saysExactly reports whether v is the string, the integer or the boolean that
// text says.
func saysExactly(v strictjson.Value, text string) bool {
	switch v.(type) {
	case string, bool:
		return says(v, text)
	case int64:
		return strings.Trim(text, "+-.0123456789eE") == "" && says(v, text)
	default:
		return false
	}
}

// says reports whether a string, an integer or a boolean anywhere in v is text.
func says(v strictjson.Value, text string) bool {
	switch v := v.(type) {
	case string:
		return v == text
	case bool:
		return strconv.FormatBool(v) == text
	case int64:
		n, err := strconv.ParseFloat(text, 64)
		return err == nil && n == float64(v)
	case []strictjson.Value:
		return slices.ContainsFunc(v, func(e strictjson.Value) bool { return says(e, text) })
	case *strictjson.Object:
		for _, e := range v.All() {
			if says(e, text) {
				return true
			}
		}
	}
	return false
}

func mismatch(key, what string) *Error {
	return &Error{
		Code:    CodeHeaderMismatch,
		Problem: "header " + key + " does not match " + what + ": the message was not acted on",
	}
}

func first(h http.Header, key string) (string, bool) {
	if values := h[key]; len(values) > 0 {
		return values[0], true
	}
	return "", false
}

// decodeHeader undoes the encoding of values that cannot stand in a header.
func decodeHeader(v string) string {
	encoded, ok := strings.CutPrefix(v, "=?base64?")
	if !ok {
		return v
	}
	if encoded, ok = strings.CutSuffix(encoded, "?="); !ok {
		return v
	}
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return v
	}
	return string(text)
}
