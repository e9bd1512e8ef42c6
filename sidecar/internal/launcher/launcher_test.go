package launcher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/reeve-authz/reeve/sidecar/internal/launcher"
)

type who struct {
	Name string `json:"name"`
}

// till is a server as people write them, over streamable HTTP.
func till(stateless bool) http.Handler {
	server := sdk.NewServer(&sdk.Implementation{Name: "till", Version: "1"}, nil)
	sdk.AddTool(server, &sdk.Tool{Name: "count"}, func(ctx context.Context, r *sdk.CallToolRequest, in who) (*sdk.CallToolResult, any, error) {
		if token := r.Params.GetProgressToken(); token != nil {
			for i := range 3 {
				if err := r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: token, Progress: float64(i)}); err != nil {
					return nil, nil, err
				}
			}
		}
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "counted for " + in.Name}}}, nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "another"}, func(context.Context, *sdk.CallToolRequest, who) (*sdk.CallToolResult, any, error) {
		sdk.AddTool(server, &sdk.Tool{Name: "new"}, func(context.Context, *sdk.CallToolRequest, who) (*sdk.CallToolResult, any, error) {
			return &sdk.CallToolResult{}, nil, nil
		})
		return &sdk.CallToolResult{}, nil, nil
	})
	return sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, &sdk.StreamableHTTPOptions{Stateless: stateless})
}

// A client as people write them talks to a server as people write them, in every
// generation of the protocol, over a port and over a socket.
func TestClient(t *testing.T) {
	for _, version := range []string{"2025-06-18", "2025-11-25", "2026-07-28"} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(version+" "+network, func(t *testing.T) {
				s := &sidecar{t: t}
				s.run("one", network, till(version >= "2026"))
				k := s.start()
				var mu sync.Mutex
				progress := make(map[any]int)
				changed := make(chan struct{}, 16)
				client := sdk.NewClient(&sdk.Implementation{Name: "clerk", Version: "1"}, &sdk.ClientOptions{
					ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) {
						mu.Lock()
						defer mu.Unlock()
						progress[r.Params.ProgressToken]++
					},
					ToolListChangedHandler: func(context.Context, *sdk.ToolListChangedRequest) { changed <- struct{}{} },
				})
				session, err := client.Connect(t.Context(), &sdk.IOTransport{Reader: k.out, Writer: k.in}, &sdk.ClientSessionOptions{ProtocolVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				if got := session.InitializeResult().ProtocolVersion; got != version {
					t.Errorf("speaks %s", got)
				}
				var calls sync.WaitGroup
				for i := range 64 {
					calls.Go(func() {
						name := fmt.Sprintf("caller-%d", i)
						params := &sdk.CallToolParams{Name: "count", Arguments: map[string]any{"name": name}}
						params.SetProgressToken(name)
						result, err := session.CallTool(t.Context(), params)
						if err != nil {
							t.Error(err)
							return
						}
						if text := result.Content[0].(*sdk.TextContent).Text; text != "counted for "+name {
							t.Errorf("%s was told %q", name, text)
						}
					})
				}
				calls.Wait()
				eventually(t, "progress", func() bool {
					mu.Lock()
					defer mu.Unlock()
					n := 0
					for _, told := range progress {
						n += told
					}
					return n == 3*64
				})
				eventually(t, "it listens", func() bool { return version >= "2026" || len(s.asked(http.MethodGet, "/mcp/till")) > 0 })
				if _, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "another", Arguments: map[string]any{"name": "x"}}); err != nil {
					t.Fatal(err)
				}
				select {
				case <-changed:
				case <-time.After(10 * time.Second):
					t.Error("the change of the list was not heard")
				}
				_ = session.Close() // it ends the pipes
				if err := k.end(); err != nil {
					t.Error(err)
				}
				if n := len(s.asked(http.MethodDelete, "/mcp/till")); (n == 1) != (version < "2026") {
					t.Errorf("%d sessions were ended", n)
				}
			})
		}
	}
}

const (
	initialize  = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"clerk","version":"1"}}}`
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	ping        = `{"jsonrpc":"2.0","id":"p","method":"ping"}`
)

// P5: a sidecar that was started anew, with another secret and elsewhere, is
// found; its client is told that the session is over, and can begin another.
func TestRestart(t *testing.T) {
	s := &sidecar{t: t}
	s.run("one", "tcp", till(false))
	k := s.start()
	for i, where := range []string{"", "tcp", "again"} {
		secret := fmt.Sprintf("secret-%d", i)
		if where != "" {
			s.stop()
			s.run(secret, where, till(false))
			k.say(ping)
			if line := k.hear(); !strings.Contains(line, `"id":"p","error":`) {
				t.Errorf("with the session of before: %s", line)
			}
		}
		k.say(initialize)
		if line := k.hear(); !strings.Contains(line, `"id":0,"result"`) {
			t.Fatalf("initialize: %s", line)
		}
		k.say(initialized)
		k.say(ping)
		if line := k.hear(); !strings.Contains(line, `"id":"p","result"`) {
			t.Errorf("ping: %s", line)
		}
	}
}

// P8: if no sidecar runs, the client is told what to do; it is waited for before.
func TestNotRunning(t *testing.T) {
	s := &sidecar{t: t}
	k := s.start()
	k.say(initialize)
	if line := k.hear(); !strings.Contains(line, `{"jsonrpc":"2.0","id":0,"error":{"code":-32603,"message":"The sidecar is not running`) ||
		!strings.Contains(line, "Start it with: reeve-sidecar run --state-dir /here") {
		t.Errorf("told %s", line)
	}
	s.waits = 10 * time.Second // a machine may take its time to start one
	k = s.start()
	k.say(initialize)
	time.Sleep(100 * time.Millisecond) // so that it has looked once in vain; nothing outside tells when it has
	s.run("late", "tcp", till(false))
	if line := k.hear(); !strings.Contains(line, `"id":0,"result"`) {
		t.Errorf("of a sidecar that starts: %s", line)
	}
}

// A session that is opened for the calls is named by each, and ended with them,
// however they end.
func TestSession(t *testing.T) {
	for _, way := range []string{"end of input", "signal"} {
		t.Run(way, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("POST /v1/sessions", func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if got := string(body); got != `{"purpose":"triage","ttl":"1h0m0s","maxCalls":3}` {
					t.Errorf("asked for %s", got)
				}
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, `{"name":"namespaces/default/agents/clerk/sessions/s-1","id":"s-1","expireTime":"2030-01-01T00:00:00Z"}`)
			})
			mux.HandleFunc("DELETE /v1/sessions/s-1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
			mux.Handle("/mcp/", till(false))
			s := &sidecar{t: t}
			s.run("one", "tcp", mux)
			k := s.start(func(c *launcher.Config) {
				c.Open = &launcher.Wish{Purpose: "triage", TTL: time.Hour, MaxCalls: 3}
			})
			k.say(initialize)
			k.hear()
			k.say(ping)
			k.hear()
			if way == "signal" {
				k.kill()
				if err := <-k.ended; err != nil {
					t.Error(err)
				}
				k.ended <- nil
			} else if err := k.end(); err != nil {
				t.Error(err)
			}
			for _, r := range s.asked(http.MethodPost, "/mcp/") {
				if got := r.Header.Get("Reeve-Session"); got != "s-1" {
					t.Errorf("a call names the session %q", got)
				}
			}
			if len(s.asked(http.MethodDelete, "/v1/sessions/s-1")) != 1 || len(s.asked(http.MethodDelete, "/mcp/till")) != 1 {
				t.Error("not both sessions were ended")
			}
		})
	}
}

// The headers of 2026-07-28 say what the message says.
func TestHeaders(t *testing.T) {
	s := &sidecar{t: t}
	s.run("one", "tcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct{ ID json.RawMessage }
		_ = json.NewDecoder(r.Body).Decode(&m)
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, "{\"jsonrpc\":\"2.0\",\n\"id\":%s,\n\"result\":{\"tools\":[{\"name\":\"pay\",\"inputSchema\":{\"properties\":{\"to\":{\"properties\":{\"land\":{\"x-mcp-header\":\"Land\"}}},\"urgent\":{\"x-mcp-header\":\"Urgent\"}}}}]}}\r\n", m.ID)
	}))
	k := s.start(func(c *launcher.Config) { c.Session = "fixed" })
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`
	for i, c := range []struct{ method, params, want string }{
		{"tools/list", meta, "2026-07-28 tools/list   "},
		{"tools/call", meta + `,"name":"pay","arguments":{"to":{"land":"Åland"},"urgent":true}`, "2026-07-28 tools/call pay =?base64?w4VsYW5k?= true"},
		{"resources/read", meta + `,"uri":"a://b c ö"`, "2026-07-28 resources/read =?base64?YTovL2IgYyDDtg==?=  "},
		{"tools/call", `"name":"pay"`, "    "},
	} {
		k.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":"h%d","method":%q,"params":{%s}}`, i, c.method, c.params))
		if line := k.hear(); !strings.Contains(line, fmt.Sprintf(`"id":"h%d"`, i)) {
			t.Fatalf("%s: %s", c.method, line)
		}
		h := s.asked(http.MethodPost, "/mcp/till")[i].Header
		got := strings.Join([]string{h.Get("Mcp-Protocol-Version"), h.Get("Mcp-Method"), h.Get("Mcp-Name"), h.Get("Mcp-Param-Land"), h.Get("Mcp-Param-Urgent")}, " ")
		if got != c.want || h.Get("Reeve-Session") != "fixed" {
			t.Errorf("%s has %q and session %q, want %q", c.method, got, h.Get("Reeve-Session"), c.want)
		}
	}
}

// What is no message is answered as such, and does not end anything.
func TestGarbage(t *testing.T) {
	s := &sidecar{t: t}
	s.run("one", "tcp", till(false))
	k := s.start()
	for _, line := range []string{"hello", `{"jsonrpc":"2.0"`, `[]`, strings.Repeat("x", 17<<20)} {
		k.say(line)
		if got := k.hear(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":null,"error":{"code":-32`) {
			t.Errorf("%.20s: %s", line, got)
		}
	}
	k.say("")
	k.say(initialize)
	if line := k.hear(); !strings.Contains(line, `"id":0,"result"`) {
		t.Errorf("then: %s", line)
	}
}

// Answers in progress at the end of the input are still written; a call that the
// client has cancelled ends at the sidecar and is not answered.
func TestEnd(t *testing.T) {
	arrived, goOn, gone := make(chan string, 4), make(chan struct{}), make(chan struct{})
	s := &sidecar{t: t}
	s.run("one", "tcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- string(body)
		if strings.Contains(string(body), "doomed") {
			<-r.Context().Done()
			close(gone)
			return
		}
		<-goOn
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"result\":{}}\n\n")
	}))
	k := s.start()
	k.say(`{"jsonrpc":"2.0","id":"doomed","method":"tools/call"}`)
	<-arrived
	k.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"doomed"}}`)
	<-gone
	k.say(ping)
	<-arrived
	_ = k.in.Close()                  // a pipe
	time.Sleep(50 * time.Millisecond) // it has seen the end
	close(goOn)
	if line := k.hear(); line != `{"jsonrpc":"2.0","id":"p","result":{}}` {
		t.Errorf("heard %s", line)
	}
	if err := k.end(); err != nil {
		t.Error(err)
	}
}

// A stream that broke off is resumed, whether it answers or listens.
func TestResume(t *testing.T) {
	var mu sync.Mutex
	var after []string
	s := &sidecar{t: t}
	s.run("one", "tcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, "id: e1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1}}\n\n")
			return
		}
		mu.Lock()
		after = append(after, r.Header.Get("Last-Event-Id"))
		mu.Unlock()
		_, _ = io.WriteString(w, "id: e2\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"result\":{}}\n\n")
	}))
	k := s.start()
	k.say(ping)
	if a, b := k.hear(), k.hear(); !strings.Contains(a, "progress") || !strings.Contains(b, `"id":"p","result"`) {
		t.Errorf("heard %s, %s", a, b)
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(after, " ") != "e1" {
		t.Errorf("resumed after %q", after)
	}
}

// The end of the input does not wait for what only listens, nor for ever for a
// client that does not read; the session is ended all the same.
func TestEndAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		most    time.Duration
	}{
		"listening": {`{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, 4 * time.Second},
		"deaf":      {ping, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan struct{}, 1)
			mux := http.NewServeMux()
			mux.HandleFunc("POST /v1/sessions", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, `{"id":"s-1"}`)
			})
			mux.HandleFunc("DELETE /v1/sessions/s-1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
			mux.HandleFunc("/mcp/", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				arrived <- struct{}{}
				if name == "listening" {
					<-r.Context().Done()
					return
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"p","result":{}}`)
			})
			s := &sidecar{t: t}
			s.run("one", "tcp", mux)
			k := s.start(func(c *launcher.Config) { c.Open = &launcher.Wish{Purpose: "x"} })
			k.say(c.request)
			<-arrived
			began := time.Now()
			_ = k.in.Close() // a pipe
			eventually(t, "the session is ended", func() bool { return len(s.asked(http.MethodDelete, "/v1/sessions/s-1")) == 1 })
			if took := time.Since(began); took > c.most {
				t.Errorf("it took %v", took)
			}
			_ = k.out.Close() // a pipe
		})
	}
}
