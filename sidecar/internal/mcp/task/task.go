// Package task remembers which call began which task, so that what becomes of a
// task is decided as that call is.
package task

import (
	"container/list"
	"sync"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

const (
	// maxTasks and maxBytes are how many tasks are remembered, and how long the
	// messages that began them may be together; the one that was not asked for
	// longest is forgotten first.
	maxTasks = 1024
	maxBytes = 8 << 20
	// maxID is the longest id of a task that is remembered, in bytes.
	maxID = 1024
)

type key struct{ server, id string }

type task struct {
	key  key
	call pdp.Call
	size int
}

// Tasks are the tasks of the agent's calls. It is safe for concurrent use.
type Tasks struct {
	mu    sync.Mutex
	byKey map[key]*list.Element // of *task
	used  *list.List            // the newest first
	bytes int
}

// New returns none.
func New() *Tasks { return &Tasks{byKey: make(map[key]*list.Element), used: list.New()} }

// Begin remembers that call, by a message of size bytes, began the task of this
// id. A task that is known stays that of the call that began it.
func (t *Tasks) Begin(id string, call pdp.Call, size int) {
	if id == "" || len(id) > maxID || size > maxBytes {
		return
	}
	k := key{call.Server, id}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[k] != nil {
		return
	}
	t.byKey[k] = t.used.PushFront(&task{k, call, size})
	t.bytes += size
	for t.used.Len() > maxTasks || t.bytes > maxBytes {
		old := t.used.Remove(t.used.Back()).(*task)
		delete(t.byKey, old.key)
		t.bytes -= old.size
	}
}

// Began returns the call that began a task of server.
func (t *Tasks) Began(server, id string) (call pdp.Call, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byKey[key{server, id}]
	if e == nil {
		return pdp.Call{}, false
	}
	t.used.MoveToFront(e)
	return e.Value.(*task).call, true
}

// Of returns the id of the task that an answer says was begun in its place:
// {task:{taskId}} in 2025-11-25, {resultType:"task",taskId} from 2026-07-28 on.
func Of(a *message.Answer) (id string, begun bool) {
	if kind, _ := a.ResultString("resultType"); kind == "task" {
		return a.ResultString("taskId")
	}
	return a.ResultString("task", "taskId")
}
