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

// metaVersion is where a message itself names its protocol version.
const metaVersion = "io.modelcontextprotocol/protocolVersion"

// CheckHeaders reports how headers contradict the message they came with: what
// is decided is what the message says, and nobody on its way may be told
// otherwise. name is what the message is about; empty if nothing.
func CheckHeaders(h http.Header, m *Message, name string) *Error {
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
		if version, ok := meta.String(metaVersion); ok {
			if v, ok := first(h, HeaderVersion); ok && v != version {
				return mismatch(HeaderVersion, metaVersion)
			}
		}
	}
	return checkParams(h, m)
}

// checkParams checks the headers that repeat arguments. Which one repeats which
// is for the tool's schema to say, which is the server's to check; here it is
// enough that none says what no argument does.
func checkParams(h http.Header, m *Message) *Error {
	for key, values := range h {
		if !strings.HasPrefix(key, HeaderParam) {
			continue
		}
		args, _ := m.Params.Object("arguments")
		if len(values) != 1 || !says(args, decodeHeader(values[0])) {
			return mismatch(key, "any argument")
		}
	}
	return nil
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
