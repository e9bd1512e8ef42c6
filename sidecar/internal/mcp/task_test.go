package mcp_test

import (
	"net/http"
	"strings"
	"testing"
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
