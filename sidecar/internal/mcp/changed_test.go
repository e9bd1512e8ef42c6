package mcp_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// An agent that listens is told when it may see something else, and of which
// lists; of those that the server has, and not of what makes no difference.
func TestListChanged(t *testing.T) {
	s := newShop()
	g := newRig(t, s, allow("greet", "tool support/greet"))
	a := newAgent(t, g)
	resp := a.send(t.Context(), t, http.MethodPost, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}`)
	a.session = resp.Header.Get("Mcp-Session-Id")
	if body := text(t, resp); !strings.Contains(body, `"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"logging":{}`) {
		t.Errorf("capabilities: %s", body)
	}
	heard := a.stream(t.Context(), t, http.MethodGet, "")
	s.pushes <- `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"begun"}}`
	if got := hears(t, heard); !strings.Contains(got, "begun") {
		t.Fatalf("heard %s", got)
	}
	next := func() string {
		return strings.TrimSuffix(strings.TrimPrefix(hears(t, heard), `{"jsonrpc":"2.0","method":"notifications/`), `/list_changed"}`)
	}
	// rest is what is told from now on until all is told.
	rest := func() (got []string) {
		t.Helper()
		time.Sleep(300 * time.Millisecond) // what is told is told by then
		s.pushes <- `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"until here"}}`
		for {
			line := next()
			if strings.Contains(line, "until here") {
				return got
			}
			got = append(got, line)
		}
	}
	told := func(what string, want ...string) {
		t.Helper()
		var got []string
		for range want { // however long it takes
			got = append(got, next())
		}
		got = append(got, rest()...)
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: told %q, want %q", what, got, want)
		}
	}
	g.apply(t, nil, allow("more", "tool support/add"))
	told("another tool", "tools")
	g.apply(t, nil, allow("again", "tool support/add"))
	told("the same tool again")
	g.apply(t, nil, allow("calendar", "resource support/calendar://*"))
	told("resources", "resources")
	g.apply(t, nil, allow("polite", "prompt support/polite"))
	told("a prompt, which this server does not have")
	g.apply(t, nil, allow("other", "tool billing/*"), allow("method", "method support/completion/complete"))
	told("another server and a method")
	ban := allow("ban", "tool support/greet")
	ban.Effect = grantv1.Grant_FORBID
	g.apply(t, nil, ban)
	told("a forbid", "tools")
	g.apply(t, nil, pin(t, "add", item("add", "Adds.")))
	told("a pin", "tools")
	soon := allow("soon", "tool support/wait")
	soon.NotBefore = timestamppb.New(time.Now().Add(2 * time.Second))
	g.apply(t, nil, soon)
	told("what is not valid yet")
	if got := hears(t, heard); !strings.Contains(got, "tools/list_changed") {
		t.Errorf("when it began: %s", got)
	}
	began := time.Now()
	for i := range 20 {
		g.apply(t, nil, allow("many", "tool support/"+[]string{"ask", "progress"}[i%2]))
	}
	// A machine that is too slow to make them at once makes them several.
	most := 1 + int(time.Since(began)/(100*time.Millisecond))
	if got := append([]string{next()}, rest()...); len(got) > most || slices.ContainsFunc(got, func(what string) bool { return what != "tools" }) {
		t.Errorf("twenty changes: told %q, want tools %d times at the most", got, most)
	}
}

// From 2026-07-28 on an agent is told what it asked for, on the stream where it
// asked.
func TestListChangedStateless(t *testing.T) {
	s := newShop()
	g := newRig(t, s, allow("greet", "tool support/greet"))
	const listen = `{"jsonrpc":"2.0","id":"sub-1","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"promptsListChanged":false}}}`
	heard := newAgent(t, g).stream(t.Context(), t, http.MethodPost, listen, "Mcp-Protocol-Version", "")
	if got := hears(t, heard); !strings.Contains(got, `"notifications":{"toolsListChanged":true}`) {
		t.Errorf("acknowledged %s", got)
	}
	g.apply(t, nil, allow("polite", "prompt support/polite"))
	g.apply(t, nil, allow("calendar", "resource support/calendar://*"))
	time.Sleep(300 * time.Millisecond) // past the pause in which changes are gathered: what came must have said nothing
	g.apply(t, nil, allow("add", "tool support/add"))
	const want = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"sub-1"}}}`
	if got := hears(t, heard); got != want {
		t.Errorf("told %s", got)
	}
	for capabilities, claimed := range map[string]string{
		`{"tools":{"listChanged":true},"prompts":{}}`: `{"tools":{"listChanged":true},"prompts":{"listChanged":true}}`,
		`{"tools":{},"prompts":{}}`:                   `{"tools":{},"prompts":{}}`, // nobody would hear of it
	} {
		s.set(func() { s.answers["server/discover"] = `{"capabilities":` + capabilities + `}` })
		if _, body := g.post(t, `{"jsonrpc":"2.0","id":1,"method":"server/discover"}`); !strings.Contains(body, `"capabilities":`+claimed) {
			t.Errorf("%s became %s", capabilities, body)
		}
	}
}

// Lists say that they are for this agent alone, in the revision that has caches.
func TestListsArePrivate(t *testing.T) {
	s := newShop(item("greet", "Greets."))
	g := newRig(t, s, allow("greet", "tool support/greet"))
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	if _, body := g.post(t, list, "Mcp-Protocol-Version", "2026-07-28"); !strings.Contains(body, `"cacheScope":"private","ttlMs":0}`) {
		t.Errorf("2026-07-28: %s", body)
	}
	if _, body := g.post(t, list, "Mcp-Protocol-Version", "2025-11-25"); strings.Contains(body, "cacheScope") {
		t.Errorf("2025-11-25: %s", body)
	}
}
