package mcp_test

import (
	"net/http"
	"strings"
	"testing"
)

// free is the grant that a method needs which needs none.
const free = ""

// passesBy has try without a grant, with grants of other kinds, and with the one
// by which a message is to pass.
func passesBy(grant string, try func(grant string, want bool)) {
	try("", grant == free)
	if grant == free {
		return
	}
	for _, other := range []string{"tool *", "prompt *", "resource *", "method *"} {
		if kind, _, _ := strings.Cut(grant, " "); !strings.HasPrefix(other, kind) {
			try(other, false)
		}
	}
	try(grant, true)
}

// P1: every method of every revision, in both directions: without a grant it is
// denied, unless it is free; with a grant of what it needs it passes; with a grant
// of another kind it is denied.
func TestEveryMethod(t *testing.T) {
	for _, c := range []struct{ method, params, grant string }{
		{"initialize", `{}`, free},
		{"ping", `{}`, free},
		{"server/discover", `{}`, free},
		{"tools/list", `{}`, free},
		{"prompts/list", `{}`, free},
		{"resources/list", `{}`, free},
		{"resources/templates/list", `{}`, free},
		{"tasks/list", `{}`, free},
		{"resources/unsubscribe", `{"uri":"a://b"}`, free},
		{"tools/call", `{"name":"greet"}`, "tool support/greet"},
		{"prompts/get", `{"name":"greet"}`, "prompt support/greet"},
		{"resources/read", `{"uri":"a://b"}`, "resource support/a://b"},
		{"resources/subscribe", `{"uri":"a://b"}`, "resource support/a://b"},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"greet"}}`, "method support/completion/complete"},
		{"logging/setLevel", `{"level":"debug"}`, free},
		{"tasks/get", `{"taskId":"t"}`, "method support/tasks/get"},
		{"tasks/result", `{"taskId":"t"}`, "method support/tasks/result"},
		{"tasks/cancel", `{"taskId":"t"}`, "method support/tasks/cancel"},
		{"tasks/update", `{"taskId":"t"}`, "method support/tasks/update"},
		{"sampling/createMessage", `{}`, "method support/sampling/createMessage"},
		{"elicitation/create", `{}`, "method support/elicitation/create"},
		{"roots/list", `{}`, "method support/roots/list"},
		{"vendor/anything", `{}`, "method support/vendor/anything"},
		{"notifications/initialized", `{}`, free},
		{"notifications/cancelled", `{}`, free},
		{"notifications/progress", `{}`, free},
		{"notifications/roots/list_changed", `{}`, free},
		{"notifications/tasks/status", `{"taskId":"t"}`, "method support/notifications/tasks/status"},
		{"notifications/elicitation/complete", `{}`, "method support/notifications/elicitation/complete"},
		{"notifications/vendor", `{}`, "method support/notifications/vendor"},
	} {
		t.Run(c.method, func(t *testing.T) {
			s := newShop()
			for _, list := range []string{"prompts", "resources", "tasks"} {
				s.answers[list+"/list"] = `{"` + list + `":[]}`
			}
			s.answers["resources/templates/list"] = `{"resourceTemplates":[]}`
			g := newRig(t, s)
			message := `{"jsonrpc":"2.0","id":1,"method":"` + c.method + `","params":` + c.params + `}`
			if strings.HasPrefix(c.method, "notifications/") {
				message = strings.Replace(message, `"id":1,`, "", 1)
			}
			tryWith := func(grant string, want bool) {
				t.Helper()
				if grant != "" {
					g.apply(t, nil, allow("g", grant))
				}
				before := s.count(c.method)
				_, body := g.post(t, message)
				if passed := s.count(c.method) > before; passed != want || !want && !strings.Contains(body, `"reason":"not_granted"`) {
					t.Errorf("with %q: passed is %t: %s", grant, passed, body)
				}
			}
			passesBy(c.grant, tryWith)
		})
	}
}

// P1: whatever a server says by itself needs a grant of the method, but for what
// the protocol itself needs.
func TestEveryMethodOfServers(t *testing.T) {
	for _, c := range []struct{ message, grant string }{
		{`"id":1,"method":"ping"`, free},
		{`"id":1,"method":"sampling/createMessage","params":{}`, "method support/sampling/createMessage"},
		{`"id":1,"method":"elicitation/create","params":{}`, "method support/elicitation/create"},
		{`"id":1,"method":"roots/list"`, "method support/roots/list"},
		{`"id":1,"method":"tasks/get","params":{"taskId":"t"}`, "method support/tasks/get"},
		{`"id":1,"method":"tasks/result","params":{"taskId":"t"}`, "method support/tasks/result"},
		{`"id":1,"method":"tasks/list"`, "method support/tasks/list"},
		{`"id":1,"method":"tasks/cancel","params":{"taskId":"t"}`, "method support/tasks/cancel"},
		{`"id":1,"method":"tools/call","params":{"name":"greet"}`, "method *"},
		{`"id":1,"method":"vendor/anything"`, "method support/vendor/anything"},
		{`"method":"notifications/cancelled","params":{"requestId":1}`, free},
		{`"method":"notifications/progress","params":{"progressToken":1}`, free},
		{`"method":"notifications/message","params":{"level":"info","data":"x"}`, free},
		{`"method":"notifications/elicitation/complete","params":{}`, free},
		{`"method":"notifications/tools/list_changed"`, free},
		{`"method":"notifications/prompts/list_changed"`, free},
		{`"method":"notifications/resources/list_changed"`, free},
		{`"method":"notifications/subscriptions/acknowledged","params":{"notifications":{}}`, free},
		{`"method":"notifications/resources/updated","params":{"uri":"a://b"}`, "resource support/a://b"},
		{`"method":"notifications/tasks/status","params":{"taskId":"t"}`, "method support/tasks/get"},
		{`"method":"notifications/tasks","params":{"taskId":"t"}`, "method support/tasks/get"},
		{`"method":"notifications/vendor","params":{"a":1}`, "method support/notifications/vendor"},
	} {
		t.Run(c.message, func(t *testing.T) {
			t.Parallel()
			s := newShop()
			g := newRig(t, s)
			a := newAgent(t, g)
			heard := a.stream(t.Context(), t, http.MethodGet, "")
			said := `{"jsonrpc":"2.0",` + c.message + `}`
			tryWith := func(grant string, want bool) {
				t.Helper()
				if grant != "" {
					g.apply(t, nil, allow("g", grant))
				}
				s.pushes <- said
				s.pushes <- `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"until here"}}`
				got := ""
				for line := hears(t, heard); !strings.Contains(line, "until here"); line = hears(t, heard) {
					if line == said || !strings.Contains(line, "list_changed") {
						got = line // not what the sidecar itself has to say of the grants
					}
				}
				if (got != "") != want {
					t.Errorf("with %q: heard %q", grant, got)
				}
			}
			passesBy(c.grant, tryWith)
		})
	}
}

// P3: a message that is refused is on record if it could be read what it was about.
func TestMalformedIsRecorded(t *testing.T) {
	g := newRig(t, newShop(), allow("all", "tool support/*"))
	for _, c := range []struct{ body, want string }{
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}`, "tools/call malformed"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","Name":"x"}}`, "tools/call malformed"},
		{`{"jsonrpc":"2.0","id":{},"method":"resources/read","params":{}}`, "resources/read malformed"},
		{`{"jsonrpc":"2.0","id":1,"method":"prompts/get","result":{}}`, "prompts/get malformed"},
	} {
		_, _ = g.post(t, c.body)
		g.records.await(t, c.want)
	}
	before := len(g.records.all())
	for _, body := range []string{`{"jsonrpc":"2.0"`, `{"jsonrpc":"2.0","id":1,"method":7}`, `{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}`, `{"jsonrpc":"2.0","id":1,"params":[],"method":"` + strings.Repeat("x", 300) + `"}`} {
		_, _ = g.post(t, body)
	}
	if n := len(g.records.all()); n != before {
		t.Errorf("%d records of what could not be read", n-before)
	}
}

// P1: names are bytes. What looks alike is another tool.
func TestNamesAreBytes(t *testing.T) {
	const composed, decomposed = "caf\u00e9", "cafe\u0301"
	s := newShop(item(composed, ""), item(decomposed, ""), item("greet", ""), item("Greet", ""), item("\u0261reet", ""))
	g := newRig(t, s, allow("cafe", "prompt support/"+composed), allow("all", "tool support/*"))
	s.answers["prompts/list"] = `{"prompts":[{"name":"` + composed + `"},{"name":"` + decomposed + `"}]}`
	get := func(name string) string {
		_, body := g.post(t, `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"`+name+`"}}`)
		return body
	}
	if body := get(composed); !strings.Contains(body, "done") {
		t.Errorf("what was granted: %s", body)
	}
	if body := get(decomposed); !strings.Contains(body, "not_granted") {
		t.Errorf("its twin: %s", body)
	}
	for _, name := range []string{"Greet", "GREET", "\u0261reet", "greet ", "greet\u200b", "gr\u200deet"} {
		if _, body := g.post(t, call(1, name, `{}`)); !strings.Contains(body, `"reason":"unknown_tool"`) {
			t.Errorf("%q: %s", name, body)
		}
	}
	if _, body := g.post(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); strings.Count(body, `"name":"`) != 1 {
		t.Errorf("listed: %s", body)
	}
	if _, body := g.post(t, `{"jsonrpc":"2.0","id":1,"method":"prompts/list"}`); strings.Count(body, `"name":"`) != 1 || !strings.Contains(body, composed) {
		t.Errorf("listed: %s", body)
	}
	const get1 = `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"` + composed + `"}}`
	for header, ok := range map[string]bool{"=?base64?Y2Fmw6k=?=": true, "=?base64?Y2FmZcyB?=": false, "=?BASE64?Y2Fmw6k=?=": false} {
		if _, body := g.post(t, get1, "Mcp-Name", header); strings.Contains(body, "done") != ok {
			t.Errorf("%s: %s", header, body)
		}
	}
}
