package mcp_test

import (
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// A denial is a sentence that says what to do; the word for the reason alone is not.
func TestSentences(t *testing.T) {
	g := newRig(t, newShop())
	for r := range pdp.Reasons {
		if r == pdp.Granted {
			continue
		}
		d := pdp.Decision{Reason: r, Grant: "namespaces/default/grants/g"}
		got := mcp.Sentence(g.handler, pdp.Call{Kind: pdp.Tool, Server: "support", Name: "greet", Session: "s-1"}, d)
		if !strings.HasPrefix(got, "Denied: ") || strings.Contains(got, r.String()+")") || strings.Contains(got, "%!") {
			t.Errorf("%s: %s", r, got)
		}
	}
	const grant = "namespaces/default/grants/g"
	for _, c := range []struct {
		reason               pdp.Reason
		grant, session, want string
	}{
		{pdp.SessionRequired, grant, "", `only in a session that is as ` + grant + ` asks for, and this call is in none.`},
		{pdp.SessionRequired, grant, "s-1", `and this call is in session "s-1" which is not.`},
		{pdp.SessionEnded, "", "s-1", `session "s-1" has ended`},
		{pdp.LimitReached, grant, "s-1", `that ` + grant + ` allows have been made`},
		{pdp.LimitReached, "", "s-1", `that session "s-1" allows have been made`},
		{pdp.RateLimited, "", "s-1", `as often as session "s-1" allows`},
	} {
		call := pdp.Call{Kind: pdp.Tool, Server: "support", Name: "greet", Session: c.session}
		if got := mcp.Sentence(g.handler, call, pdp.Decision{Reason: c.reason, Grant: c.grant}); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %q", c.reason, got, c.want)
		}
	}
}

// An agent is told which argument is wrong and which one may have been meant, and
// no value comes back.
func TestArgumentsInvalid(t *testing.T) {
	good := strings.Replace(item("greet", "Greets."), `,"additionalProperties":true`, "", 1)
	s := newShop(good)
	g, _ := newPinned(t, s, good)
	for arguments, want := range map[string]string{
		`{"nmae":"s3cret"}`:         `arguments.nmae: the schema has no such argument; did you mean name?`,
		`{"n":"s3cret"}`:            `arguments.n: want an integer`,
		`{"to":{"citty":"s3cret"}}`: `arguments.to.citty: the schema has no such argument; did you mean city?`,
	} {
		_, body := g.post(t, call(1, "greet", arguments))
		if !strings.Contains(body, want) || !strings.Contains(body, `"reason":"arguments_invalid"`) || strings.Contains(body, "s3cret") {
			t.Errorf("%s: %s, want %q", arguments, body, want)
		}
	}
	if n := s.count("tools/call"); n != 0 {
		t.Errorf("the server was reached %d times", n)
	}
}
