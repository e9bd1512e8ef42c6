package message_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// P1: with an accepted schema, a header that is let through says what the one
// argument says that the schema has it repeat.
func FuzzParamHeaders(f *testing.F) {
	const marked = `{"properties":{"a":{"x-mcp-header":"A"},"b":{"properties":{"c":{"x-mcp-header":"C"}}},"d":{"x-mcp-header":"a"}}}`
	f.Add(`{"properties":{"a":{"x-mcp-header":"A"}}}`, "A", "x", `{"a":"x"}`)
	f.Add(marked, "C", "=?base64?eA==?=", `{"b":{"c":"x"}}`)
	f.Add(marked, "A", "1", `{"a":1,"d":1}`)
	f.Add(`{"properties":[]}`, "", "", `[]`)
	f.Fuzz(func(t *testing.T, schema, name, value, arguments string) {
		m, err := message.Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":`+arguments+`}}`), strictjson.Limits{})
		if err != nil || schema == "" {
			return
		}
		h := http.Header{message.HeaderParam + name: {value}}
		if message.CheckHeaders(h, m, "t", schema) != nil {
			return
		}
		if !strings.Contains(schema, "x-mcp-header") && !strings.Contains(schema, `\`) {
			t.Fatalf("%s says %q by a schema that marks nothing: %s", name, value, schema)
		}
		// What nobody marks is never let through.
		h = http.Header{message.HeaderParam + "No-" + name + "-Such\x00": {value}}
		if message.CheckHeaders(h, m, "t", schema) == nil && !strings.Contains(schema, "uch") {
			t.Fatalf("a header that %s does not mark was let through", schema)
		}
	})
}

// A header name that two properties claim is neither's.
func TestParamHeaderTwice(t *testing.T) {
	t.Parallel()
	m, err := message.Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"a":"x","d":"x","b":{"c":"y"}}}}`), strictjson.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	const schema = `{"properties":{"a":{"x-mcp-header":"A"},"b":{"properties":{"c":{"x-mcp-header":"C"}}},"d":{"x-mcp-header":"a"}},"items":{"properties":{"a":{"x-mcp-header":"I"}}}}`
	for name, want := range map[string]bool{"A": false, "C": true, "I": false} {
		value := map[string]string{"A": "x", "C": "y", "I": "x"}[name]
		if got := message.CheckHeaders(http.Header{message.HeaderParam + name: {value}}, m, "", schema) == nil; got != want {
			t.Errorf("%s: let through is %t", name, got)
		}
	}
}
