package mcp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sse"
)

// causes are the ways in which all of an agent's authority ends, by the reason
// that is given.
var causes = map[string]func(*testing.T, *rig){
	"suspended": func(t *testing.T, g *rig) {
		t.Helper()
		g.apply(t, nil, &grantv1.Agent{Name: "namespaces/default/agents/clerk", State: grantv1.Agent_SUSPENDED})
	},
	"halted": func(t *testing.T, g *rig) {
		t.Helper()
		g.apply(t, nil, &grantv1.FleetState{Name: "namespaces/default/fleet", State: grantv1.FleetState_HALTED})
	},
	"stale": func(t *testing.T, g *rig) {
		t.Helper()
		g.replica.Lapse()
	},
}

// byGrant are those and the ways in which one grant ends.
func byGrant() map[string]func(*testing.T, *rig) {
	all := map[string]func(*testing.T, *rig){
		"not_granted": func(t *testing.T, g *rig) {
			t.Helper()
			g.apply(t, []string{"namespaces/default/grants/g"})
		},
		"forbidden": func(t *testing.T, g *rig) {
			t.Helper()
			var targets []*grantv1.Target
			for _, target := range []string{"tool *", "resource *"} {
				targets = append(targets, allow("", target).GetTargets()...)
			}
			ban := allow("ban", "tool *")
			ban.Effect, ban.Targets = grantv1.Grant_FORBID, targets
			g.apply(t, nil, ban)
		},
	}
	for reason, cause := range causes {
		all[reason] = cause
	}
	return all
}

// A hanging is a server that begins to answer and does not end.
type hanging struct {
	events string // what it says; nothing, not even a header, if empty
	came   chan struct{}
	gone   chan struct{} // when the sidecar has left
}

func newHanging(events string) *hanging {
	return &hanging{events: events, came: make(chan struct{}, 10), gone: make(chan struct{}, 10)}
}

func (h *hanging) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.ReadAll(r.Body)
	if h.events != "" {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, h.events)
		_ = http.NewResponseController(w).Flush()
	}
	h.came <- struct{}{}
	select {
	case <-r.Context().Done():
		h.gone <- struct{}{}
	case <-time.After(10 * time.Second): // a test that waits for its end is to fail
	}
}

func (h *hanging) left(t *testing.T) {
	t.Helper()
	select {
	case <-h.gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the server's connection stays open")
	}
}

const (
	someProgress = "id: 1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":\"p\",\"progress\":1}}\n\n"
	callListen   = `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["ticket://1","ticket://2"]}}}`
)

// rest reads what is left of a response, and returns its last event's data and
// whether the response ended well.
func rest(t *testing.T, resp *http.Response) (last string, ended bool) {
	t.Helper()
	var reader sse.Reader
	reader.Reset(resp.Body, 1<<20)
	for {
		e, err := reader.Next()
		if err != nil {
			return last, errors.Is(err, io.EOF)
		}
		last = string(e.Data)
	}
}

// P2: a call that is open when its authority ends is cut, at the server and at
// the agent, who is told why; and so is the log.
func TestOpenCallIsToldWhy(t *testing.T) {
	for reason, end := range byGrant() {
		denial := func(t *testing.T, text string) {
			t.Helper()
			if !strings.HasPrefix(text, `{"jsonrpc":"2.0","id":1,"error":{"code":-32010,"message":"Denied: `) || !strings.Contains(text, `"reason":"`+reason+`"`) {
				t.Errorf("told %s", text)
			}
		}
		t.Run(reason+"/before the first byte", func(t *testing.T) {
			h := newHanging("")
			g := newRig(t, h, allow("g", "tool support/greet"))
			done := make(chan string, 1)
			go func() {
				status, body := g.post(t, callGreet)
				if status != http.StatusOK {
					t.Errorf("status %d", status)
				}
				done <- body
			}()
			<-h.came
			end(t, g)
			denial(t, <-done)
			h.left(t)
			g.records.await(t, "instance-1 CUT "+reason)
		})
		for name, c := range map[string]struct{ grant, call string }{
			"midway":       {"tool support/greet", callGreet},
			"subscription": {"resource support/ticket://*", callListen},
		} {
			t.Run(reason+"/"+name, func(t *testing.T) {
				h := newHanging(someProgress)
				g := newRig(t, h, allow("g", c.grant))
				a := newAgent(t, g)
				resp := a.send(t.Context(), t, http.MethodPost, c.call)
				defer resp.Body.Close()
				until(t, resp, "progress")
				end(t, g)
				text, ended := rest(t, resp)
				if !ended {
					t.Error("the stream broke off")
				}
				denial(t, text)
				h.left(t)
				// Of the calls of one message, the one that is cut first says why.
				g.records.awaitOne(t, "instance-1 CUT "+reason, "instance-2 CUT "+reason)
			})
		}
		t.Run(reason+"/resumed", func(t *testing.T) {
			h := newHanging(someProgress)
			g := newRig(t, h, allow("g", "tool support/greet"))
			a := newAgent(t, g)
			ctx, leave := context.WithCancel(t.Context())
			resp := a.send(ctx, t, http.MethodPost, callGreet)
			event := until(t, resp, "progress")
			leave()
			resp.Body.Close()
			h.left(t)
			resp = a.send(t.Context(), t, http.MethodGet, "", "Last-Event-Id", event.ID)
			defer resp.Body.Close()
			until(t, resp, "progress")
			end(t, g)
			text, ended := rest(t, resp)
			if !ended {
				t.Error("the stream broke off")
			}
			denial(t, text)
			h.left(t)
			g.records.await(t, "instance-2 CUT "+reason)
		})
	}
}

// P2, P8: a stream that listens is cut at the server, and its agent told why. It
// ends for the agent too, but for a lapse of freshness, which passes.
func TestListenerIsToldWhy(t *testing.T) {
	for reason, end := range causes {
		t.Run(reason, func(t *testing.T) {
			h := newHanging(someProgress)
			g := newRig(t, h)
			a := newAgent(t, g)
			resp := a.send(t.Context(), t, http.MethodGet, "")
			defer resp.Body.Close()
			until(t, resp, "progress")
			<-h.came
			end(t, g)
			h.left(t)
			want := `"reason":"` + reason + `"`
			if reason == "stale" {
				e := until(t, resp, want)
				if !strings.Contains(string(e.Data), `"level":"warning","logger":"reeve"`) {
					t.Errorf("told %s", e.Data)
				}
				g.replica.Extend(g.clock(), time.Hour, 0, time.Now())
				until(t, resp, "progress")
				<-h.came
				return
			}
			text, ended := rest(t, resp)
			if !ended || !strings.Contains(text, `"method":"notifications/message"`) || !strings.Contains(text, want) {
				t.Errorf("told %s, ended well: %t", text, ended)
			}
			again := a.send(t.Context(), t, http.MethodGet, "")
			defer again.Body.Close()
			if text, _ := io.ReadAll(again.Body); again.StatusCode != http.StatusForbidden || !strings.Contains(string(text), want) {
				t.Errorf("a new stream: %s %s", again.Status, text)
			}
		})
	}
}

// A halted agent is denied everything: what needs no grant, and lists too.
func TestHaltedIsDeniedEverything(t *testing.T) {
	h := newHanging("")
	g := newRig(t, h, allow("g", "tool *"))
	g.apply(t, nil, &grantv1.FleetState{Name: "fleet", State: grantv1.FleetState_HALTED})
	for _, method := range []string{"initialize", "ping", "server/discover", "tools/list", "resources/list", "subscriptions/listen", "tools/call", "completion/complete"} {
		_, body := g.post(t, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{"name":"greet"}}`)
		if !strings.Contains(body, `"reason":"halted"`) || !strings.Contains(body, "an operator has halted") {
			t.Errorf("%s: %s", method, body)
		}
	}
	if status, body := g.post(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); status != http.StatusForbidden {
		t.Errorf("notification: %d %s", status, body)
	}
	select {
	case <-h.came:
		t.Error("the server was called")
	default:
	}
}

// A real client takes being stopped for what it is, and goes on when it is over.
func TestClientIsToldWhy(t *testing.T) {
	for name, options := range generations {
		if options.JSONResponse {
			continue
		}
		t.Run(name, func(t *testing.T) {
			desk := newDesk(t)
			defer close(desk.release)
			g := newRig(t, desk.handler(t, options), allow("wait", "tool support/wait"), allow("greet", "tool support/greet"))
			said := make(chan any, 10)
			client := &sdk.ClientOptions{}
			//nolint:staticcheck // MCP has deprecated it, and clients of today have it
			client.LoggingMessageHandler = func(_ context.Context, r *sdk.LoggingMessageRequest) { said <- r.Params.Data }
			s := g.client(t, client)
			got := make(chan error, 1)
			go func() {
				_, err := toolText(t, s, "wait", struct{}{})
				got <- err
			}()
			<-desk.called
			g.apply(t, nil, &grantv1.FleetState{Name: "fleet", State: grantv1.FleetState_HALTED})
			var denial *jsonrpc.Error
			if err := <-got; !errors.As(err, &denial) || denial.Code != message.CodeDenied || !strings.Contains(string(denial.Data), `"halted"`) {
				t.Errorf("open call: %v", err)
			}
			if !options.Stateless { // which has no stream to listen on
				data, _ := (<-said).(map[string]any)
				if inner, _ := data["data"].(map[string]any); inner["reason"] != "halted" {
					t.Errorf("said %v", data)
				}
			}
			g.apply(t, []string{"fleet"})
			if got, err := toolText(t, g.client(t, client), "greet", greeting{"Ann"}); err != nil || got != "hello Ann" {
				t.Errorf("when it is over: %q, %v", got, err)
			}
		})
	}
}
