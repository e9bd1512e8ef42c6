package mcp_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
)

// P1, P2: what becomes of a task is decided as the call that began it; a task of
// somebody else needs a grant of the method.
func TestTasks(t *testing.T) {
	for revision, began := range map[string]string{
		"2025-11-25": `{"task":{"taskId":"t1","status":"working"}}`,
		"2026-07-28": `{"resultType":"task","taskId":"t1","status":"working"}`,
	} {
		t.Run(revision, func(t *testing.T) {
			s := newShop()
			s.answers["tools/call"] = began
			s.answers["tasks/list"] = `{"tasks":[{"taskId":"t1"},{"taskId":"t2"},{"TaskId":"t2","taskId":"t1"}]}`
			g := newRig(t, s, when(allow("greet", "tool support/greet"), `args.name == "Ann"`), allow("add", "tool support/add"))
			about := func(method, task string) string {
				return `{"jsonrpc":"2.0","id":2,"method":"` + method + `","params":{"taskId":"` + task + `"}}`
			}
			const unknown = `"reason":"not_granted"`
			if _, body := g.post(t, about("tasks/get", "t1")); !strings.Contains(body, unknown) {
				t.Errorf("before it was begun: %s", body)
			}
			if _, body := g.post(t, callGreet); !strings.Contains(body, `"taskId":"t1"`) {
				t.Fatalf("begin: %s", body)
			}
			// It stays that of the call that began it.
			_, _ = g.post(t, call(9, "add", `{}`))
			for _, method := range []string{"tasks/get", "tasks/result", "tasks/cancel", "tasks/update"} {
				if _, body := g.post(t, about(method, "t1"), "Mcp-Method", method, "Mcp-Name", "t1"); !strings.Contains(body, "done") {
					t.Errorf("%s: %s", method, body)
				}
				if _, body := g.post(t, about(method, "t2")); !strings.Contains(body, unknown) {
					t.Errorf("%s of another: %s", method, body)
				}
				if _, body := g.post(t, about(method, "t1"), "Mcp-Name", "t2"); !strings.Contains(body, "-32020") {
					t.Errorf("%s with another name in the header: %s", method, body)
				}
			}
			list := `{"jsonrpc":"2.0","id":3,"method":"tasks/list"}`
			if _, body := g.post(t, list); !strings.Contains(body, `"tasks":[{"taskId":"t1"}]`) {
				t.Errorf("list: %s", body)
			}
			a := newAgent(t, g)
			heard := a.stream(t.Context(), t, http.MethodGet, "")
			status := func(task, more string) string {
				return `{"jsonrpc":"2.0","method":"notifications/tasks` + map[string]string{"2025-11-25": "/status"}[revision] + `","params":{"taskId":"` + task + `"` + more + `}}`
			}
			s.pushes <- status("t2", "")
			s.pushes <- status("t1", `,"inputRequests":{"a":{"method":"sampling/createMessage"}}`)
			s.pushes <- status("t1", `,"status":"completed"`)
			if got := hears(t, heard); !strings.Contains(got, "completed") {
				t.Errorf("heard %s", got)
			}
			listen := `{"jsonrpc":"2.0","id":4,"method":"subscriptions/listen","params":{"notifications":{"taskIds":["t1","t2"]}}}`
			if _, body := g.post(t, listen); !strings.Contains(body, unknown) {
				t.Errorf("listen to another's: %s", body)
			}
			g.apply(t, nil, allow("get", "method support/tasks/get"), allow("list", "method support/tasks/list"))
			if _, body := g.post(t, about("tasks/get", "t2")); !strings.Contains(body, "done") {
				t.Errorf("another's with a grant: %s", body)
			}
			if _, body := g.post(t, list); !strings.Contains(body, `"t2"`) {
				t.Errorf("list with a grant: %s", body)
			}
			g.apply(t, []string{"namespaces/default/grants/greet"})
			if _, body := g.post(t, about("tasks/get", "t1")); !strings.Contains(body, unknown) {
				t.Errorf("of a call that may not be made any more: %s", body)
			}
		})
	}
}

// P1: a limit counts calls: what goes on of one, its task and its second half, is
// not another.
func TestCountedOnce(t *testing.T) {
	s := newShop()
	s.answers["tools/call"] = `{"resultType":"input_required","requestState":"x"}`
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	q, err := quota.Open(filepath.Join(t.TempDir(), "quota"), time.Now, discard(), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	once := allow("greet", "tool support/greet")
	once.Uid, once.Limits = "greet", &grantv1.Limits{MaxCalls: 1}
	g := newRigAt(t, server.URL, func(c *mcp.Config) { c.Enforcer.Limit(q, nil) }, once)
	_, body := g.post(t, call(1, "greet", `{}`))
	var m struct{ Result struct{ RequestState string } }
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.Result.RequestState == "" {
		t.Fatalf("%s: %v", body, err)
	}
	s.set(func() { s.answers["tools/call"] = `{"task":{"taskId":"t1"}}` })
	again := strings.Replace(call(2, "greet", `{}`), `"arguments"`, `"requestState":"`+m.Result.RequestState+`","arguments"`, 1)
	if _, body := g.post(t, again); !strings.Contains(body, "t1") {
		t.Errorf("its second half: %s", body)
	}
	for range 3 {
		if _, body := g.post(t, `{"jsonrpc":"2.0","id":3,"method":"tasks/get","params":{"taskId":"t1"}}`); !strings.Contains(body, "done") {
			t.Errorf("its task: %s", body)
		}
	}
	if _, body := g.post(t, call(4, "greet", `{}`)); !strings.Contains(body, `"reason":"limit_reached"`) {
		t.Errorf("another call: %s", body)
	}
}
