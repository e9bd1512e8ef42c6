package stdio_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio"
)

// What is no message does no harm, and is logged without what a terminal would
// act on.
func TestNoise(t *testing.T) {
	g := newRig(t, "script")
	s := g.begin()
	for _, noise := range []string{
		"starting \x1b]0;evil\x07\n", "\x00\x01\n", "[]\n", "{}\n", "\n", "\r\n", `{"jsonrpc":"2.0","id":99,"result":{}}` + "\n",
		`{"jsonrpc":"2.0","id":1,"id":2,"result":{}}` + "\n", `{"jsonrpc":"2.0","id":"q","result":{"stolen":true}}` + "\n",
		strings.Repeat("x", 100<<10) + "\n",
	} {
		text, _ := json.Marshal(map[string]string{"text": noise})
		if a := g.ask(s, "saythen", string(text)); a.text != `{"jsonrpc":"2.0","id":"q","result":{}}` {
			t.Errorf("after %.20q: %s", noise, a)
		}
	}
	log := g.log.String()
	if !strings.Contains(log, "what is no message") || strings.ContainsAny(log, "\x1b\x07\x00") || strings.Contains(log, `\x1b`) {
		t.Errorf("log: %.2000q", log)
	}
	if len(log) > 40<<10 {
		t.Errorf("%d bytes were logged", len(log))
	}
}

// What a server says to its standard error is logged, bounded and harmless.
func TestProblems(t *testing.T) {
	g := newRig(t, "die")
	if a := g.do(t.Context(), http.MethodPost, "", `{"jsonrpc":"2.0","id":1,"method":"initialize"}`, allowed); !strings.Contains(sentence(a.err), "has ended (exit status 3)") && !strings.Contains(sentence(a.err), "has ended (it reads no more)") {
		t.Errorf("told %q", sentence(a.err))
	}
	eventually(t, "it is logged", func() bool {
		log := g.log.String()
		return strings.Contains(log, "cannot �[31mgo on�") && strings.Contains(log, `level=WARN msg="server ended"`)
	})
}

// An answer that is too long is one call's failure, if it can be told whose.
func TestGiant(t *testing.T) {
	g := newRig(t, "script", func(c *stdio.Config) { c.MaxLine = 1 << 20 })
	s := g.begin()
	if a := g.ask(s, "giant", `{"size":1040000}`); a.status != http.StatusOK || len(a.text) < 1040000 {
		t.Errorf("what is long enough: %s", a)
	}
	if a := g.ask(s, "giant", `{"size":3000000}`); !strings.Contains(a.text, `"id":"q","error":{"code":-32603,"message":"The answer of the server is longer than 1048576 bytes."}`) {
		t.Errorf("what is too long: %s", a)
	}
	if a := g.ask(s, "echo", `{"text":"still there"}`); !strings.Contains(a.text, "still there") {
		t.Errorf("then: %s", a)
	}
	text, _ := json.Marshal(map[string]string{"text": strings.Repeat("x", 3<<20) + "\n"})
	if a := g.ask(s, "say", string(text)); sentence(a.err) != "was ended: it wrote a line that is too long." {
		t.Errorf("what is nobody's: %s", a)
	}
}

// A server that closes its output is over at once, not when its callers give up.
func TestMute(t *testing.T) {
	for name, c := range map[string]struct{ first, told string }{
		"it ends with its input": {"echo", "has ended ("},
		"it heeds nothing":       {"stubborn", "has ended (it closed its output)"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, "script")
			s := g.begin()
			pid := g.pid(s)
			g.ask(s, c.first, "")
			other := make(chan answered, 1)
			go func() { other <- g.ask(s, "silent", "") }()
			eventually(t, "it has the call", func() bool { return strings.Contains(g.ask(s, "heard", "").text, "silent") })
			for _, a := range []answered{g.ask(s, "mute", ""), <-other} {
				if !strings.Contains(sentence(a.err), c.told) {
					t.Errorf("told %s", a)
				}
			}
			gone(t, pid)
			eventually(t, "it is logged", func() bool { return strings.Contains(g.log.String(), `level=WARN msg="server ended"`) })
			if a := g.ask(s, "echo", ""); a.status != http.StatusNotFound {
				t.Errorf("its session: %s", a)
			}
		})
	}
}

// A process that dies takes its calls and its session with it, and nothing else.
func TestDeath(t *testing.T) {
	g := newRig(t, "script")
	doomed, other := g.begin(), g.begin()
	done := make(chan answered, 2)
	go func() { done <- g.ask(doomed, "silent", "") }()
	go func() { done <- g.do(t.Context(), http.MethodGet, doomed, "", allowed) }()
	eventually(t, "it has the call", func() bool { return strings.Contains(g.ask(doomed, "heard", "").text, "silent") })
	if a := g.ask(doomed, "die", ""); !strings.Contains(sentence(a.err), "has ended (exit status 3)") {
		t.Errorf("the call it died of: %s", a)
	}
	for range 2 {
		if a := <-done; !strings.Contains(sentence(a.err), "has ended (exit status 3)") {
			t.Errorf("what else was open: %s", a)
		}
	}
	if a := g.ask(doomed, "echo", ""); a.status != http.StatusNotFound {
		t.Errorf("later: %s", a)
	}
	if a := g.ask(other, "echo", `{"text":"here"}`); !strings.Contains(a.text, "here") {
		t.Errorf("the other: %s", a)
	}
}

// A server that ends again and again is not started without end.
func TestBackoff(t *testing.T) {
	g := newRig(t, "die")
	var last string
	for range 6 {
		a := g.do(t.Context(), http.MethodPost, "", `{"jsonrpc":"2.0","id":1,"method":"initialize"}`, allowed)
		last = sentence(a.err)
		eventually(t, "it has ended", func() bool {
			return strings.Count(g.log.String(), "server started") == strings.Count(g.log.String(), "server ended")
		})
	}
	if !strings.Contains(last, "was not started: it ended again and again soon after its start. It is not started again for ") {
		t.Errorf("told %q", last)
	}
	if n := strings.Count(g.log.String(), "server started"); n != 3 {
		t.Errorf("it was started %d times", n)
	}
}

// There are only so many processes, and starts.
func TestLimits(t *testing.T) {
	g := newRig(t, "script", func(c *stdio.Config) { c.MaxProcesses, c.MaxStarts = 2, 3 })
	first := g.begin()
	g.begin()
	begin := `{"jsonrpc":"2.0","id":1,"method":"initialize"}`
	if a := g.do(t.Context(), http.MethodPost, "", begin, allowed); !strings.Contains(sentence(a.err), "was not started: the sidecar runs 2 servers, as many as it may.") {
		t.Errorf("the third: %s", a)
	}
	for _, want := range []string{"<nil>", "has started 3 servers in the last minute"} {
		pid := g.pid(first)
		g.do(t.Context(), http.MethodDelete, first, "", allowed)
		eventually(t, "it has ended", func() bool {
			return !alive(pid) && strings.Contains(g.log.String(), fmt.Sprintf(`msg="server ended" server=till pid=%d`, pid))
		})
		a := g.do(t.Context(), http.MethodPost, "", begin, allowed)
		if got := fmt.Sprint(a.err); !strings.Contains(got, want) {
			t.Errorf("after an end: %s", a)
		}
		first = a.session
	}
}

// Processes end when they may not run any more, or nobody uses them.
func TestRevised(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rig)
		reason string
	}{
		"the launch line": {func(g *rig) { g.serve(g.line("script", "X=y")) }, "its launch line has changed"},
		"the server":      {func(g *rig) { g.hold(nil, "namespaces/default/servers/till") }, "it is no longer in the catalogue"},
		"the upstream": {func(g *rig) {
			g.hold(&grantv1.Server{Name: "namespaces/default/servers/till", Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://localhost/mcp"}}})
		}, "it is no longer in the catalogue"},
		"the agent": {func(g *rig) {
			g.hold(&grantv1.Agent{Name: "namespaces/default/agents/clerk", State: grantv1.Agent_SUSPENDED})
		}, "its agent was stopped"},
		"all agents": {func(g *rig) { g.hold(&grantv1.FleetState{Name: "fleet", State: grantv1.FleetState_HALTED}) }, "its agent was stopped"},
		"another tool": {func(g *rig) {
			g.hold(&grantv1.Tool{Name: "namespaces/default/servers/till/tools/x", Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED})
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, "script")
			pid, shared := g.pid(g.begin()), g.pid("")
			c.change(g)
			g.launcher.Revise()
			if c.reason == "" {
				if !alive(pid) || g.pid("") != shared {
					t.Error("it has ended")
				}
				return
			}
			eventually(t, "they have ended", func() bool { return !alive(pid) && !alive(shared) })
			eventually(t, "it is logged", func() bool { return strings.Count(g.log.String(), `reason="`+c.reason) == 2 })
		})
	}
}

// Who has no session shares a process, whose ids do not meet.
func TestShared(t *testing.T) {
	g := newRig(t, "script")
	if first := g.pid(""); first != g.pid("") {
		t.Error("there is more than one")
	}
	var calls sync.WaitGroup
	for i := range 64 {
		calls.Go(func() {
			if a := g.ask("", "echo", fmt.Sprintf(`{"text":"%d"}`, i)); a.text != fmt.Sprintf(`{"jsonrpc":"2.0","id":"q","result":{"text":"%d"}}`, i) {
				t.Errorf("%d was told %s", i, a)
			}
		})
	}
	calls.Wait()
	if a := g.do(t.Context(), http.MethodGet, "", "", allowed); a.status != http.StatusMethodNotAllowed {
		t.Errorf("listening to it: %s", a)
	}
	if a := g.do(t.Context(), http.MethodPost, "never-begun", `{"jsonrpc":"2.0","id":1,"method":"echo"}`, allowed); a.status != http.StatusNotFound {
		t.Errorf("another's session: %s", a)
	}
}

// A process that nobody uses ends; one that somebody listens to does not.
func TestIdle(t *testing.T) {
	g := newRig(t, "script", func(c *stdio.Config) { c.Idle = 2 * time.Second })
	used := g.begin()
	resp, err := g.send(t.Context(), http.MethodGet, used, "", allowed) // before another starts, which can take long
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	pid := g.pid(g.begin())
	eventually(t, "it has ended", func() bool { return !alive(pid) })
	if a := g.ask(used, "echo", `{"text":"here"}`); !strings.Contains(a.text, "here") {
		t.Errorf("the other: %s", a)
	}
}

// A slow agent holds the server back, and not the sidecar's memory full; one
// that goes lets it go on.
func TestSlowAgent(t *testing.T) {
	g := newRig(t, "script")
	s := g.begin()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req := `{"jsonrpc":"2.0","id":1,"method":"flood","params":{"size":1000}}` // 8 MB
	resp, err := func() (*http.Response, error) { return g.send(ctx, http.MethodPost, s, req, allowed) }()
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	n := 0
	for ; n < 500; n++ { // each is a line of data and an empty one
		line, err := lines.ReadString('\n')
		if err != nil || !strings.Contains(line, fmt.Sprintf(`"n":%d,`, n)) {
			t.Fatalf("%d: %.50q %v", n, line, err)
		}
		_, _ = lines.ReadString('\n')
	}
	next := make(chan answered, 1)
	go func() { next <- g.ask(s, "echo", `{"text":"here"}`) }()
	select {
	case a := <-next:
		t.Errorf("it went on: %s", a)
		next <- a
	case <-time.After(300 * time.Millisecond): // it would have written all of it
	}
	cancel()
	resp.Body.Close()
	if a := <-next; !strings.Contains(a.text, "here") {
		t.Errorf("then: %s", a)
	}
}

// A server that heeds nothing is killed, with what it has started.
func TestStubborn(t *testing.T) {
	g := newRig(t, "script")
	s := g.begin()
	g.ask(s, "stubborn", "")
	var answer struct{ Result struct{ PID, Child int } }
	if err := json.Unmarshal([]byte(g.ask(s, "child", "").text), &answer); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	g.do(t.Context(), http.MethodDelete, s, "", allowed)
	eventually(t, "both have ended", func() bool { return !alive(answer.Result.PID) && !alive(answer.Result.Child) })
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("ended after %v, before it was killed", took)
	}
}

// Servers run as another user, if the sidecar is told and may.
func TestUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	if _, err := stdio.New(stdio.Config{User: "no-such-user-here", Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}}); err == nil || !strings.Contains(err.Error(), "no-such-user-here") {
		t.Errorf("a user that does not exist: %v", err)
	}
	for _, name := range []string{"nobody", nobody.Uid} {
		g := newRig(t, "script", func(c *stdio.Config) { c.User = name })
		self, _ := os.Executable()
		copied, err := os.MkdirTemp("/tmp", "reeve-test-") //nolint:usetesting // the other user must get there
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(copied) }()
		if err := exec.Command("/bin/sh", "-c", "chmod 755 "+copied+" && cp "+self+" "+copied+"/server && chmod 755 "+copied+"/server").Run(); err != nil {
			t.Fatal(err)
		}
		line := g.line("script")
		line.Command[0] = copied + "/server"
		g.serve(line)
		session := g.begin()
		a := g.ask(session, "self", "")
		for _, want := range []string{`"uid":` + nobody.Uid, `"gid":` + nobody.Gid, "HOME=" + nobody.HomeDir} {
			if !strings.Contains(a.text, want) {
				t.Errorf("%s is not in %s", want, a.text)
			}
		}
		if runtime.GOOS == "linux" {
			pids := g.family(session)
			g.end()
			gone(t, pids...)
		}
	}
}
