package mcp_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
)

const claimant = "sha256:0000000000000000000000000000000000000000000000000000000000000001"

func running(id, claimant string) *grantv1.Session {
	return &grantv1.Session{
		Name: "namespaces/default/agents/clerk/sessions/" + id, Origin: grantv1.Session_ADMIN, User: "ann@example.com", Purpose: "refunds",
		Claimant: claimant, CreateTime: timestamppb.Now(), ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}
}

// claims claims a session when it is first used.
type claims struct {
	mu      sync.Mutex
	ensured []string
	claim   func(id string)
}

func (c *claims) Ensure(_ context.Context, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ensured = append(c.ensured, id)
	if c.claim != nil {
		c.claim(id)
	}
}

// P1, P2, P6: a call is made in the session that it names, and in no other; lists
// show what may be used in it, and when it ends nothing goes on in it.
func TestAgentSession(t *testing.T) {
	s := newShop(item("greet", "Greets."))
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c := &claims{}
	refunds := allow("refunds", "tool support/greet")
	refunds.Session = &grantv1.SessionRequirement{Purposes: []string{"refunds"}}
	g := newRigAt(t, server.URL, func(cfg *mcp.Config) { cfg.Claims = c })
	g.replica.ClaimsAs(claimant)
	g.apply(t, nil, refunds, running("s-1", ""), running("s-2", strings.Replace(claimant, "1", "2", 1)))
	c.claim = func(id string) {
		if id == "s-1" {
			g.apply(t, nil, running("s-1", claimant))
		}
	}
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	for _, try := range []struct{ body, session, want string }{
		{callGreet, "", `"reason":"session_required"`},
		{callGreet, "s-1", "done"},
		{callGreet, "s-2", `"reason":"session_claimed"`},
		{callGreet, "s-3", `"reason":"session_ended"`},
		{list, "s-1", `"greet"`},
		{list, "", `"tools":[]`},
		{list, "s-3", `"reason":"session_ended"`},
	} {
		header := []string{"Reeve-Session", try.session}
		if _, body := g.post(t, try.body, header...); !strings.Contains(body, try.want) {
			t.Errorf("%s in %q: %s, want %s", try.body, try.session, body, try.want)
		}
	}
	if _, h := s.last(); h.Get("Reeve-Session") != "" {
		t.Error("the server was told the session")
	}
	if got := strings.Join(c.ensured, " "); got != "s-1 s-2 s-3 s-1 s-3" {
		t.Errorf("claimed: %s", got)
	}
	for _, bad := range []string{"S-1", "-a", "a-", "a/b", "a b", strings.Repeat("a", 64), "ü"} {
		if status, body := g.post(t, callGreet, "Reeve-Session", bad); status != http.StatusBadRequest || !strings.Contains(body, "-32600") {
			t.Errorf("%q: %d %s", bad, status, body)
		}
	}
	if status, body := g.post(t, callGreet, "Reeve-Session", "s-1", "Reeve-Session", "s-1"); status != http.StatusBadRequest || !strings.Contains(body, "-32600") {
		t.Errorf("twice: %d %s", status, body)
	}

	c.mu.Lock()
	c.claim = nil
	c.mu.Unlock()
	a := newAgent(t, g)
	heard := a.stream(t.Context(), t, http.MethodGet, "", "Reeve-Session", "s-1")
	g.apply(t, []string{"namespaces/default/agents/clerk/sessions/s-1"})
	if got := hears(t, heard); !strings.Contains(got, "session_ended") {
		t.Errorf("the stream was told %s", got)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		resp := a.send(t.Context(), t, method, "", "Reeve-Session", "s-1")
		if body := text(t, resp); !strings.Contains(body, "session_ended") {
			t.Errorf("%s after the end: %s", method, body)
		}
	}
	if _, body := g.post(t, callGreet, "Reeve-Session", "s-1"); !strings.Contains(body, "session_ended") {
		t.Errorf("after the end: %s", body)
	}
}

// P6: the rest of an answer is in the session that was asked in, whatever session
// is named when it is resumed, and ends with it.
func TestResumedInSession(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, "id: e1\ndata:\n\n") // and breaks off
			return
		}
		_, _ = io.WriteString(w, `data: {"jsonrpc":"2.0","id":1,"result":{"tools":[`+item("greet", "Greets.")+`]}}`+"\n\n")
	}))
	t.Cleanup(server.Close)
	refunds := allow("refunds", "tool support/greet")
	refunds.Session = &grantv1.SessionRequirement{Purposes: []string{"refunds"}}
	g := newRigAt(t, server.URL, func(*mcp.Config) {})
	g.replica.ClaimsAs(claimant)
	g.apply(t, nil, refunds, running("s-1", claimant))
	_, body := g.post(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "Reeve-Session", "s-1")
	_, rest, _ := strings.Cut(body, "id: ")
	event, _, ok := strings.Cut(rest, "\n")
	if !ok {
		t.Fatalf("no event: %s", body)
	}
	if _, body := g.do(t, http.MethodGet, http.NoBody, "Last-Event-Id", event); !strings.Contains(body, `"greet"`) {
		t.Errorf("while it goes on: %s", body)
	}
	g.apply(t, []string{"namespaces/default/agents/clerk/sessions/s-1"})
	if _, body := g.do(t, http.MethodGet, http.NoBody, "Last-Event-Id", event); !strings.Contains(body, "session_ended") {
		t.Errorf("after the end: %s", body)
	}
}
