package mcp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
)

// What a server may not do to an agent.
func TestHostileServers(t *testing.T) {
	for _, c := range []struct {
		name, method, answer string
		want, never          string
	}{
		{"not JSON", "tools/call", `nonsense`, "cannot be passed on", "nonsense"},
		{"duplicate id", "tools/call", `{"jsonrpc":"2.0","id":1,"id":2,"result":{}}`, "can be read in two ways", `"result"`},
		{"result and method", "tools/call", `{"jsonrpc":"2.0","id":1,"result":{},"method":"sampling/createMessage"}`, "can be read in two ways", "sampling"},
		{"method in another case", "tools/call", `{"jsonrpc":"2.0","id":1,"result":{},"Method":"sampling/createMessage"}`, "can be read in two ways", "sampling"},
		{"a request in place of an answer", "tools/call", `{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}`, "the answer is to something else", "sampling"},
		{"answer to another request", "tools/call", `{"jsonrpc":"2.0","id":2,"result":{"content":[]}}`, "the answer is to something else", "content"},
		{"batch", "tools/call", `[{"jsonrpc":"2.0","id":1,"result":{}}]`, "cannot be passed on", `"result"`},
		{"more follows", "tools/call", `{"jsonrpc":"2.0","id":1,"result":{}}{"a":1}`, "something follows", `"a"`},
		{"input request", "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"sampling/createMessage","params":{}}}}}`, `"reason":"not_granted"`, "inputRequests"},
		{"input request in another case", "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"InputRequests":{"a":{"method":"sampling/createMessage"}}}}`, "can be read in two ways", "sampling"},
		{"list with twins", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"greet","name":"secret"}]}}`, `"tools":[]`, "secret"},
		{"list with lookalikes", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"greet","Name":"secret"}]}}`, `"tools":[]`, "secret"},
		{"list twice", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[{"name":"secret"}]}}`, "can be read in two ways", "secret"},
		{"list in another case", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[],"Tools":[{"name":"secret"}]}}`, "can be read in two ways", "secret"},
		{"no list", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"secret":1}}`, "it is missing", `"secret"`},
		{"cached result", "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"ttlMs":60000,"cacheScope":"public"}}`, `"ttlMs":60000,"cacheScope":"private"`, "public"},
		{"cached list", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[],"ttlMs":60000,"cacheScope":"public"}}`, `"ttlMs":60000,"cacheScope":"private"`, "public"},
		{"list cached for longer than what is held", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[],"ttlMs":99999999,"cacheScope":"public"}}`, `"cacheScope":"private"`, "99999999"},
	} {
		for _, kind := range []string{"application/json", "text/event-stream"} {
			t.Run(c.name+" as "+kind, func(t *testing.T) {
				g := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.ReadAll(r.Body)
					w.Header().Set("Content-Type", kind)
					if kind == "application/json" {
						_, _ = io.WriteString(w, c.answer)
						return
					}
					_, _ = fmt.Fprintf(w, "event: message\ndata: %s\n\n", c.answer)
				}), allow("greet", "tool support/greet"))
				_, body := g.post(t, strings.Replace(callGreet, "tools/call", c.method, 1))
				want := c.want
				if kind != "application/json" && !strings.HasPrefix(want, `"`) {
					want = `"error"` // of whatever kind: the answer never came
				}
				if !strings.Contains(body, want) {
					t.Errorf("got %s, want %s", body, want)
				}
				if strings.Contains(body, c.never) {
					t.Errorf("got %s, which has %s", body, c.never)
				}
			})
		}
	}
}

// What is no answer at all: the agent is told what to make of it.
func TestBrokenServers(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusTemporaryRedirect)
		}, "redirects with status 307"},
		{"unauthorized", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
		}, "wants credentials"},
		{"another protocol", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "h2c")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusSwitchingProtocols)
		}, "leaves HTTP"},
		{"compressed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
		}, "is encoded"},
		{"HTML", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>")
		}, "cannot be passed on"},
		{"breaks off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{")
		}, "broke off"},
		{"stream without an answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, ": hello\n\n")
		}, "broke off"},
		{"endless answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.Copy(w, io.LimitReader(spaces{}, 32<<20))
		}, "longer than"},
		{"endless event", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: ")
			_, _ = io.Copy(w, io.LimitReader(spaces{}, 32<<20))
		}, "broke off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, c.answer, allow("all", "tool support/*"))
			status, body := g.post(t, callGreet)
			if status != http.StatusOK || !strings.Contains(body, `"id":1,"error"`) || !strings.Contains(body, c.want) {
				t.Errorf("got %d %s, want an error with %q", status, body, c.want)
			}
			g.records.await(t, "instance-1 FAILED")
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		listener.Close()
		g := newRigAt(t, "http://"+address, func(*mcp.Config) {}, allow("all", "tool support/*"))
		if _, body := g.post(t, callGreet); !strings.Contains(body, "could not be reached") || strings.Contains(body, address) {
			t.Errorf("got %s", body)
		}
		g.records.await(t, "instance-1 FAILED")
	})
}
