package stdio_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio"
)

// A rig is a Launcher that runs, and the one server that it may start.
type rig struct {
	t        testing.TB
	launcher *stdio.Launcher
	log      *journal
	held     atomic.Pointer[grant.Snapshot]
	end      func() // ends Run, once, and waits for it
}

// newRig runs a Launcher whose server has a role of this program.
func newRig(tb testing.TB, serverRole string, configure ...func(*stdio.Config)) *rig {
	tb.Helper()
	g := &rig{t: tb, log: &journal{}}
	g.held.Store(grant.Empty())
	g.hold(&grantv1.Agent{Name: "namespaces/default/agents/clerk", State: grantv1.Agent_ACTIVE})
	g.serve(g.line(serverRole))
	cfg := stdio.Config{Snapshot: g.held.Load, Log: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Meter: noop.Meter{}}
	for _, c := range configure {
		c(&cfg)
	}
	launcher, err := stdio.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	g.launcher = launcher
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- launcher.Run(ctx) }()
	g.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(g.end)
	return g
}

// line is the launch line of a role of this program.
func (g *rig) line(serverRole string, env ...string) *grantv1.Server_Stdio {
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	variables := map[string]string{role: serverRole}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		maps.Copy(variables, map[string]string{name: value})
	}
	return &grantv1.Server_Stdio{Command: []string{self, "an argument", "$HOME;*"}, Env: variables}
}

// hold has the snapshot hold m, or no longer what is called remove.
func (g *rig) hold(m proto.Message, remove ...string) {
	g.t.Helper()
	held := g.held.Load()
	var entries []grant.Entry
	if m != nil {
		e, err := grant.ParseEntry(m, held.Revision()+1)
		if err != nil {
			g.t.Fatal(err)
		}
		entries = append(entries, e)
	}
	g.held.Store(held.Apply(held.Revision()+1, entries, remove))
}

func (g *rig) serve(line *grantv1.Server_Stdio) {
	g.hold(&grantv1.Server{Name: "namespaces/default/servers/till", Upstream: &grantv1.Server_Stdio_{Stdio: line}})
}

func (g *rig) server() *grant.Server { return g.held.Load().Server("till") }

// alive reports whether there is a process that has not ended.
func alive(pid int) bool {
	state, _ := stat(pid)
	return syscall.Kill(pid, 0) == nil && state != "Z"
}

// stat returns the state and the parent of a process, if the system says so.
func stat(pid int) (state string, parent int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, _ = fmt.Sscan(string(text[bytes.LastIndexByte(text, ')')+1:]), &state, &parent)
	return state, parent
}

// family has the server of a session start processes, and returns them and its
// own.
func (g *rig) family(session string) []int {
	g.t.Helper()
	var answer struct{ Result struct{ PIDs []int } }
	if err := json.Unmarshal([]byte(g.ask(session, "family", "").text), &answer); err != nil || len(answer.Result.PIDs) != 4 {
		g.t.Fatalf("family: %v, %v", answer, err)
	}
	return answer.Result.PIDs
}

// gone waits until none of these processes is alive.
func gone(tb testing.TB, pids ...int) {
	tb.Helper()
	eventually(tb, fmt.Sprint("all have ended: ", pids), func() bool { return !slices.ContainsFunc(pids, alive) })
}

// eventually waits until ok.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within 15 s: %s", what)
		}
	}
}

// A journal is a log in memory.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func allowed() error { return nil }

// An answered is what an answer said.
type answered struct {
	status  int
	session string
	kind    string
	text    string
	err     error
}

func (a answered) String() string {
	return fmt.Sprintf("%d %s %.300s %v", a.status, a.kind, a.text, a.err)
}

// do sends a request and reads the whole answer.
func (g *rig) do(ctx context.Context, method, session, body string, pass func() error) answered {
	resp, err := g.send(ctx, method, session, body, pass)
	if err != nil {
		return answered{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answered{resp.StatusCode, resp.Header.Get("Mcp-Session-Id"), resp.Header.Get("Content-Type"), string(text), err}
}

func (g *rig) send(ctx context.Context, method, session, body string, pass func() error) (*http.Response, error) {
	req := httptest.NewRequestWithContext(ctx, method, "/", strings.NewReader(body))
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	} else if !strings.Contains(body, "initialize") {
		req.Header.Set("Mcp-Protocol-Version", "2026-07-28")
	}
	return g.launcher.RoundTrip(req, g.server(), pass)
}

// begin begins a session and returns its id.
func (g *rig) begin() string {
	g.t.Helper()
	a := g.do(g.t.Context(), http.MethodPost, "", `{"jsonrpc":"2.0","id":"i","method":"initialize"}`, allowed)
	if a.session == "" || !strings.Contains(a.text, `"id":"i"`) {
		g.t.Fatalf("initialize: %s", a)
	}
	return a.session
}

// ask makes a request in a session, or in none, and returns the answer.
func (g *rig) ask(session, method, params string) answered {
	g.t.Helper()
	if params == "" {
		params = "{}"
	}
	return g.do(g.t.Context(), http.MethodPost, session, fmt.Sprintf(`{"jsonrpc":"2.0","id":"q","method":%q,"params":%s}`, method, params), allowed)
}

// pid returns the process that serves a session, or none.
func (g *rig) pid(session string) int {
	g.t.Helper()
	a := g.ask(session, "self", "")
	var pid int
	if _, err := fmt.Sscanf(a.text[strings.Index(a.text+`"pid":`, `"pid":`):], `"pid":%d`, &pid); err != nil {
		g.t.Fatalf("self: %s: %v", a, err)
	}
	return pid
}

// handler serves the launcher over HTTP, as the front door does.
func (g *rig) handler(w http.ResponseWriter, r *http.Request) {
	resp, err := g.launcher.RoundTrip(r, g.server(), allowed)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	control := http.NewResponseController(w)
	_ = control.Flush()
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			_, _ = w.Write(buf[:n])
			_ = control.Flush()
		}
		if err != nil {
			return
		}
	}
}

// sentence returns what an agent is told of an error.
func sentence(err error) string {
	var told interface {
		error
		Sentence() string
	}
	if !errors.As(err, &told) {
		return fmt.Sprintf("nothing but %v", err)
	}
	return told.Sentence()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
