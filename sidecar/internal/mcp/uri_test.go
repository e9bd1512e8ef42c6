package mcp_test

import (
	"fmt"
	"strings"
	"testing"
)

// P1: a URI that the server could read as another reaches nobody, by whatever
// method.
func TestAmbiguousURIs(t *testing.T) {
	upstream := &echo{}
	g := newRig(t, upstream, allow("policies", "resource support/desk://policies/*"))
	messages := map[string]string{
		"resources/read":        `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":%q}}`,
		"resources/subscribe":   `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":%q}}`,
		"resources/unsubscribe": `{"jsonrpc":"2.0","id":1,"method":"resources/unsubscribe","params":{"uri":%q}}`,
		"subscriptions/listen":  `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["desk://policies/refunds",%q]}}}`,
	}
	for method, message := range messages {
		t.Run(method, func(t *testing.T) {
			for _, uri := range []string{
				"desk://policies/../internal/pay-scale",
				"desk://policies/%2E%2e/internal/pay-scale",
				"desk://policies/..%2finternal/pay-scale",
				"desk://policies//internal",
				"desk://policies/a b",
			} {
				_, body := g.post(t, fmt.Sprintf(message, uri))
				if !strings.Contains(body, `"reason":"malformed"`) || !strings.Contains(body, "can be read in more than one way: it") {
					t.Errorf("%s: got %s", uri, body)
				}
			}
			if n := upstream.reached.Load(); n != 0 {
				t.Fatalf("reached the server %d times", n)
			}
		})
	}
	for _, method := range []string{"resources/read", "resources/unsubscribe"} {
		if _, body := g.post(t, fmt.Sprintf(messages[method], "desk://policies/refunds")); !strings.Contains(body, `"result"`) {
			t.Errorf("%s: got %s", method, body)
		}
	}
}
