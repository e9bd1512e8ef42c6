package history_test

import (
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/history"
)

type op struct {
	request    history.Request
	answer     history.Answer
	begin, end int
}

// TestCheck: each wrong history must be found, and each right one accepted.
func TestCheck(t *testing.T) {
	t.Parallel()
	create := history.Request{Kind: history.Create, Value: "1"}
	update := history.Request{Kind: history.Update, Expect: "1", Value: "2"}
	get := history.Request{Kind: history.Get}
	var done history.Answer
	for _, c := range []struct {
		name string
		ops  []op
		ok   bool
	}{
		{"read what was written", []op{{create, done, 0, 1}, {get, history.Answer{Value: "1"}, 2, 3}}, true},
		{"a stale read", []op{{create, done, 0, 1}, {update, done, 2, 3}, {get, history.Answer{Value: "1"}, 4, 5}}, false},
		{"a read meanwhile", []op{{create, done, 0, 1}, {update, done, 2, 5}, {get, history.Answer{Value: "1"}, 3, 4}}, true},
		{"missing what was written", []op{{create, done, 0, 1}, {get, history.Answer{Missing: true}, 2, 3}}, false},
		{"two creations", []op{{create, done, 0, 1}, {history.Request{Kind: history.Create, Value: "3"}, done, 2, 3}}, false},
		{"a creation refused", []op{{create, done, 0, 1}, {history.Request{Kind: history.Create, Value: "3"}, history.Answer{Refused: true}, 2, 3}}, true},
		{"a lost update", []op{
			{create, done, 0, 1},
			{update, done, 2, 3},
			{history.Request{Kind: history.Update, Expect: "1", Value: "3"}, done, 4, 5},
		}, false},
		{"refused for no reason", []op{{create, done, 0, 1}, {update, history.Answer{Refused: true}, 2, 3}}, false},
		{"unknown, and done", []op{{create, done, 0, 1}, {update, history.Answer{Unknown: true}, 2, 3}, {get, history.Answer{Value: "2"}, 6, 7}}, true},
		{"unknown, and not done", []op{{create, done, 0, 1}, {update, history.Answer{Unknown: true}, 2, 3}, {get, history.Answer{Value: "1"}, 6, 7}}, true},
		{"unknown, done and undone", []op{
			{create, done, 0, 1},
			{update, history.Answer{Unknown: true}, 2, 3},
			{get, history.Answer{Value: "2"}, 4, 5},
			{get, history.Answer{Value: "1"}, 6, 7},
		}, false},
		{"deleted", []op{
			{create, done, 0, 1},
			{history.Request{Kind: history.Delete, Expect: "1"}, done, 2, 3},
			{get, history.Answer{Missing: true}, 4, 5},
		}, true},
	} {
		var h history.History
		for i, o := range c.ops {
			h.Add(i, o.request, time.Unix(int64(o.begin), 0), o.answer, time.Unix(int64(o.end), 0))
		}
		if err := h.Check(time.Second); (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok %v", c.name, err, c.ok)
		}
	}
}
