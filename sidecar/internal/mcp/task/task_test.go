package task_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/task"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// What is remembered is bounded, the oldest goes first, and a task stays that of
// the call that began it.
func TestTasks(t *testing.T) {
	t.Parallel()
	tasks := task.New()
	call := func(name string) pdp.Call { return pdp.Call{Kind: pdp.Tool, Server: "desk", Name: name} }
	tasks.Begin("t", call("first"), 100)
	tasks.Begin("t", call("second"), 100)
	if c, ok := tasks.Began("desk", "t"); !ok || c.Name != "first" {
		t.Errorf("began by %v, %t", c, ok)
	}
	if _, ok := tasks.Began("mail", "t"); ok {
		t.Error("known of another server")
	}
	tasks.Begin(strings.Repeat("x", 1025), call("long"), 1)
	if _, ok := tasks.Began("desk", strings.Repeat("x", 1025)); ok {
		t.Error("a long id is remembered")
	}
	for i := range 1023 {
		tasks.Begin(strconv.Itoa(i), call("many"), 1)
	}
	if _, ok := tasks.Began("desk", "t"); !ok {
		t.Error("one that was asked for is forgotten first")
	}
	tasks.Begin("one more", call("many"), 1)
	if _, ok := tasks.Began("desk", "0"); ok {
		t.Error("more than 1024 are remembered")
	}
	tasks.Begin("large", call("large"), 8<<20)
	if _, ok := tasks.Began("desk", "t"); ok {
		t.Error("more than 8 MiB are remembered")
	}
	if _, ok := tasks.Began("desk", "large"); !ok {
		t.Error("8 MiB are not remembered")
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]string{
		`{"task":{"taskId":"t1"}}`:                "t1",
		`{"resultType":"task","taskId":"t1"}`:     "t1",
		`{"resultType":"complete","taskId":"t1"}`: "",
		`{"taskId":"t1"}`:                         "",
		`{"task":"t1"}`:                           "",
		`{"task":{"taskId":7}}`:                   "",
		`{"task":{"taskId":"t1","TaskID":"t2"}}`:  "",
	} {
		var s message.Scanner
		a, err := s.Scan([]byte(`{"jsonrpc":"2.0","id":1,"result":` + result + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := task.Of(&a); id != want || ok != (want != "") {
			t.Errorf("%s: %q, %t", result, id, ok)
		}
	}
}
