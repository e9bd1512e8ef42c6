package stdio_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// client connects the SDK's client to the rig's server, with a version of the
// protocol.
func (g *rig) client(t *testing.T, version string, options *sdk.ClientOptions) *sdk.ClientSession {
	t.Helper()
	door := httptest.NewServer(http.HandlerFunc(g.handler))
	t.Cleanup(door.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := sdk.NewClient(&sdk.Implementation{Name: "clerk", Version: "1"}, options)
	session, err := client.Connect(t.Context(), &sdk.StreamableClientTransport{
		Endpoint: door.URL, HTTPClient: &http.Client{Transport: transport}, MaxRetries: -1,
	}, &sdk.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

var versions = []string{"2025-06-18", "2025-11-25", "2026-07-28"}

// A server as people write them serves a client as people write them, of each
// generation of the protocol: 64 calls at once, each with progress of its own.
func TestManyCalls(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			g := newRig(t, "sdk")
			var mu sync.Mutex
			progress := make(map[any]int)
			session := g.client(t, version, &sdk.ClientOptions{ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) {
				mu.Lock()
				defer mu.Unlock()
				if r.Params.ProgressToken == r.Params.Message {
					progress[r.Params.ProgressToken]++
				}
			}})
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
				for _, n := range progress {
					if n != 3 {
						return false
					}
				}
				return len(progress) == 64
			})
		})
	}
}

// What the server says unasked is heard, in every generation.
func TestListChanged(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			g := newRig(t, "sdk")
			changed := make(chan struct{}, 16)
			session := g.client(t, version, &sdk.ClientOptions{ToolListChangedHandler: func(context.Context, *sdk.ToolListChangedRequest) {
				changed <- struct{}{}
			}})
			if _, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "another", Arguments: map[string]any{"name": "x"}}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-changed:
			case <-time.After(10 * time.Second):
				t.Errorf("not heard\n%s", g.log)
			}
		})
	}
}

// The server of a session can ask the agent something while it answers.
func TestQuestion(t *testing.T) {
	g := newRig(t, "sdk")
	door := httptest.NewServer(http.HandlerFunc(g.handler))
	defer door.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := sdk.NewClient(&sdk.Implementation{Name: "clerk", Version: "1"}, nil)
	client.AddRoots(&sdk.Root{URI: "file:///here"}) //nolint:staticcheck // what sessions had
	session, err := client.Connect(t.Context(), &sdk.StreamableClientTransport{
		Endpoint: door.URL, HTTPClient: &http.Client{Transport: transport}, MaxRetries: -1,
	}, &sdk.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	result, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "roots", Arguments: map[string]any{"name": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if text := result.Content[0].(*sdk.TextContent).Text; text != "file:///here" {
		t.Errorf("told %q", text)
	}
}

// A program gets what its launch line says and nothing else of the sidecar's.
func TestSurroundings(t *testing.T) {
	t.Setenv("A_SECRET_OF_THE_SIDECAR", "x")
	t.Setenv("HOME", "/home/here")
	inherited := filepath.Join(t.TempDir(), "inherited")
	fd, err := syscall.Open(inherited, syscall.O_CREAT|syscall.O_RDWR, 0o600) // as a shell leaves one open
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	g := newRig(t, "script")
	a := g.ask(g.begin(), "self", "")
	var answer struct {
		Result struct {
			Args, Env, FDs []string
			Dir            string
			Files          int
			PID, Group     int
		}
	}
	if err := json.Unmarshal([]byte(a.text), &answer); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	r := answer.Result
	if strings.Join(r.Args, "|") != "an argument|$HOME;*" {
		t.Errorf("arguments %q", r.Args)
	}
	for _, v := range r.Env {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "PATH", "HOME", "LANG", "TMPDIR", role:
		default:
			t.Errorf("its environment has %s", v)
		}
	}
	if !strings.Contains(strings.Join(r.Env, " "), "HOME=/home/here") {
		t.Errorf("its environment is %q", r.Env)
	}
	if len(r.FDs) < 3 || slices.Contains(r.FDs, inherited) {
		t.Errorf("it has the descriptors %q", r.FDs)
	}
	if r.Files != 0 || !strings.Contains(r.Dir, "reeve-server-") {
		t.Errorf("it runs in %s, with %d files", r.Dir, r.Files)
	}
	if r.Group != r.PID {
		t.Errorf("it is in the group %d, not its own %d", r.Group, r.PID)
	}
	g.end()
	if alive(r.PID) {
		t.Error("it outlives the sidecar")
	}
	if exists(r.Dir) {
		t.Errorf("%s is still there", r.Dir)
	}
}

// A program that cannot be started is named, to the agent and in the log, with
// what to do.
func TestNotStarted(t *testing.T) {
	for want, line := range map[string]*grantv1.Server_Stdio{
		`could not be started: its program "no-such-program-here" is not in the PATH of the sidecar: install it`: {Command: []string{"no-such-program-here"}},
		`its program "/no/such" does not start: fork/exec /no/such: no such file or directory; correct`:          {Command: []string{"/no/such"}},
		`its working directory "/no/such" is not a directory`:                                                    {Command: []string{"/bin/true"}, WorkingDir: "/no/such"},
	} {
		g := newRig(t, "script")
		g.serve(line)
		a := g.do(t.Context(), http.MethodPost, "", `{"jsonrpc":"2.0","id":1,"method":"initialize"}`, allowed)
		if got := sentence(a.err); !strings.Contains(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if !strings.Contains(g.log.String(), line.GetCommand()[0]) && !strings.Contains(g.log.String(), "/no/such") {
			t.Errorf("log: %s", g.log)
		}
		g.end()
	}
}

// P2: nothing is written of a call that may not pass, and its process goes on.
func TestPassIsAsked(t *testing.T) {
	g := newRig(t, "script")
	s := g.begin()
	lost := errors.New("lost")
	a := g.do(t.Context(), http.MethodPost, s, `{"jsonrpc":"2.0","id":1,"method":"echo","params":{"text":"forbidden"}}`, func() error { return lost })
	if !errors.Is(a.err, lost) {
		t.Errorf("got %s", a)
	}
	if heard := g.ask(s, "heard", ""); strings.Contains(heard.text, "forbidden") || heard.status != http.StatusOK {
		t.Errorf("it heard %s", heard)
	}
}

// P2: of a call that waits for a server that does not read, nothing more is
// written once its authority is lost, however the wait ends; and the server,
// which has a part of it, is ended.
func TestLostWhileWriting(t *testing.T) {
	const long = 4 << 20
	for _, way := range []string{"nothing", "pass", "context"} {
		t.Run(way, func(t *testing.T) {
			g := newRig(t, "script")
			s := g.begin()
			pid := g.pid(s)
			sleep := 1000
			switch way {
			case "pass":
				sleep = 4000 // longer than it takes to fill the pipe, and then to lose it
			case "context":
				sleep = 20_000 // far longer than the end of the wait may take
			}
			deaf := fmt.Sprintf(`{"jsonrpc":"2.0","method":"sleep","params":{"size":%d}}`, sleep)
			if a := g.do(t.Context(), http.MethodPost, s, deaf, allowed); a.status != http.StatusAccepted {
				t.Fatal(a)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			lost := errors.New("lost")
			var gone atomic.Bool
			var asked atomic.Int64
			done := make(chan answered, 1)
			go func() {
				done <- g.do(ctx, http.MethodPost, s, `{"jsonrpc":"2.0","id":1,"method":"echo","params":{"text":"`+strings.Repeat("x", long)+`"}}`, func() error {
					asked.Add(1)
					if gone.Load() {
						return lost
					}
					return nil
				})
			}()
			eventually(t, "some is written", func() bool { return asked.Load() >= 2 }) // and the pipe is full
			switch way {
			case "pass":
				gone.Store(true)
			case "context":
				cancel(lost)
			}
			began := time.Now()
			a := <-done
			if way == "nothing" {
				if a.status != http.StatusOK || len(a.text) < long {
					t.Errorf("got %s", a)
				}
				return
			}
			if !errors.Is(a.err, lost) {
				t.Errorf("got %s", a)
			}
			if way == "context" && time.Since(began) > 10*time.Second {
				t.Errorf("it took %v", time.Since(began))
			}
			eventually(t, "it has ended", func() bool { return !alive(pid) })
			if a := g.ask(s, "echo", ""); a.status != http.StatusNotFound {
				t.Errorf("then %s", a)
			}
		})
	}
}

// A call that nobody waits for is cancelled, by the id that the server knows.
func TestCancelled(t *testing.T) {
	g := newRig(t, "script")
	s := g.begin()
	ctx, cancel := context.WithCancelCause(t.Context())
	cut := errors.New("cut")
	done := make(chan answered, 1)
	go func() {
		done <- g.do(ctx, http.MethodPost, s, `{"jsonrpc":"2.0","id":"mine","method":"silent"}`, allowed)
	}()
	eventually(t, "it has the call", func() bool { return strings.Contains(g.ask(s, "heard", "").text, "silent") })
	cancel(cut)
	if a := <-done; !errors.Is(a.err, cut) {
		t.Errorf("got %s", a)
	}
	eventually(t, "it is told", func() bool { return strings.Contains(g.ask(s, "heard", "").text, "notifications/cancelled") })
	text := g.ask(s, "heard", "").text
	of := func(pattern string) string {
		found := regexp.MustCompile(pattern).FindStringSubmatch(strings.ReplaceAll(text, `\"`, `"`))
		return strings.Join(found[min(len(found), 1):], "")
	}
	if id := of(`"id":([0-9]+),"method":"silent"`); strings.Contains(text, "mine") || id == "" || id != of(`"requestId":([0-9]+)`) {
		t.Errorf("it heard %s", text)
	}
	// The agent's own cancellation is by its own id; of what is over, none.
	go func() {
		done <- g.do(t.Context(), http.MethodPost, s, `{"jsonrpc":"2.0","id":"again","method":"silent","params":{"_meta":{"progressToken":"again"}}}`, allowed)
	}()
	eventually(t, "it has the call", func() bool { return strings.Count(g.ask(s, "heard", "").text, "silent") == 2 })
	for _, id := range []string{"mine", "again"} {
		g.do(t.Context(), http.MethodPost, s, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"`+id+`","reason":"bored"}}`, allowed)
	}
	text = g.ask(s, "heard", "").text
	if strings.Count(text, "bored") != 1 || strings.Contains(text, "again") {
		t.Errorf("it heard %s", text)
	}
	g.do(t.Context(), http.MethodDelete, s, "", allowed)
	if a := <-done; sentence(a.err) != "was ended: its session was ended." {
		t.Errorf("the call of a session that was ended: %s", a)
	}
}
