package mcp

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

const (
	headerSession = "Mcp-Session-Id"
	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"
	headerParam   = "Mcp-Param-"
	headerEvent   = "Last-Event-Id"

	// metaVersion is where a message itself names its protocol version.
	metaVersion = "io.modelcontextprotocol/protocolVersion"
)

// toServer are the headers that an agent's request keeps. Whatever else it
// sends stays here, credentials above all.
var toServer = []string{
	"Accept", "Accept-Language", "User-Agent", "Traceparent", "Tracestate",
	headerSession, headerVersion, headerMethod, headerName,
}

// toAgent are the headers that a server's answer keeps.
var toAgent = []string{"Allow", "Retry-After", headerVersion}

// copyHeaders copies the headers called names, and those whose name begins with
// prefix if it is not empty.
func copyHeaders(dst, src http.Header, names []string, prefix string) {
	for _, name := range names {
		if values, ok := src[name]; ok {
			dst[name] = values
		}
	}
	if prefix == "" {
		return
	}
	for name, values := range src {
		if strings.HasPrefix(name, prefix) {
			dst[name] = values
		}
	}
}

// checkHeaders reports how headers contradict the message they came with: what
// is decided is what the message says, and nobody on its way may be told
// otherwise. name is what the message is about; empty if nothing.
func checkHeaders(h http.Header, m *message.Message, name string) *message.Error {
	for _, key := range [...]string{headerSession, headerVersion, headerMethod, headerName} {
		if len(h[key]) > 1 {
			return &message.Error{Code: message.CodeHeaderMismatch, Problem: "header " + key + " occurs more than once"}
		}
	}
	if v, ok := first(h, headerMethod); ok && v != m.Method {
		return mismatch(headerMethod, "method")
	}
	if v, ok := first(h, headerName); ok && v != name && decodeHeader(v) != name {
		return mismatch(headerName, "what the message is about")
	}
	if meta, ok := m.Params.Object("_meta"); ok {
		if version, ok := meta.String(metaVersion); ok {
			if v, ok := first(h, headerVersion); ok && v != version {
				return mismatch(headerVersion, metaVersion)
			}
		}
	}
	return checkParams(h, m)
}

// checkParams checks the headers that repeat arguments. Which one repeats which
// is for the tool's schema to say, which is the server's to check; here it is
// enough that none says what no argument does.
func checkParams(h http.Header, m *message.Message) *message.Error {
	for key, values := range h {
		if !strings.HasPrefix(key, headerParam) {
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

func mismatch(key, what string) *message.Error {
	return &message.Error{
		Code:    message.CodeHeaderMismatch,
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
