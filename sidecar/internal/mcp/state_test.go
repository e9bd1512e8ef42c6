package mcp_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// P1: what a server has the agent keep is good once, for the call that it was
// given for; the server gets it back as it was, and nothing else reaches it.
func TestRequestState(t *testing.T) {
	s := newShop()
	required := `{"resultType":"input_required","requestState":"order=7.ok\u00fc"}`
	s.answers["tools/call"] = required
	g := newRig(t, s, allow("greet", "tool support/greet"), allow("add", "tool support/add"))
	begin := func() string {
		t.Helper()
		s.set(func() { s.answers["tools/call"] = required })
		defer s.set(func() { delete(s.answers, "tools/call") })
		_, body := g.post(t, call(1, "greet", `{"name":"Ann"}`))
		var m struct{ Result struct{ RequestState string } }
		if err := json.Unmarshal([]byte(body), &m); err != nil || m.Result.RequestState == "" || m.Result.RequestState == "order=7.okü" {
			t.Fatalf("%s: %v", body, err)
		}
		return m.Result.RequestState
	}
	retry := func(name, arguments, state string) string {
		quoted, _ := json.Marshal(state)
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":%q,"arguments":%s,"inputResponses":{"a":{}},"requestState":%s}}`, name, arguments, quoted)
	}
	state := begin()
	reached := s.count("tools/call")
	for name, body := range map[string]string{
		"the server's own": retry("greet", `{"name":"Ann"}`, "order=7.okü"),
		"tampered":         retry("greet", `{"name":"Ann"}`, strings.Replace(state, "order=7", "order=8", 1)),
		"other arguments":  retry("greet", `{"name":"Bob"}`, state),
		"another tool":     retry("add", `{"name":"Ann"}`, state),
		"not a string":     strings.Replace(retry("greet", `{"name":"Ann"}`, "x"), `"x"`, "7", 1),
		"another method":   strings.Replace(retry("greet", `{"name":"Ann"}`, state), "tools/call", "prompts/get", 1),
	} {
		if _, got := g.post(t, body); !strings.Contains(got, "-32602") || !strings.Contains(got, `"reason":"malformed"`) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if n := s.count("tools/call") + s.count("prompts/get"); n != reached {
		t.Error("one of them reached the server")
	}
	g.records.await(t, "greet malformed", "add malformed")

	var used atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, got := g.post(t, retry("greet", `{"name":"Ann"}`, state)); strings.Contains(got, "done") {
				used.Add(1)
			} else if !strings.Contains(got, "-32602") {
				t.Errorf("raced: %s", got)
			}
		})
	}
	all.Wait()
	if n := used.Load(); n != 1 || s.count("tools/call") != reached+1 {
		t.Errorf("used %d times, reached the server %d times", n, s.count("tools/call")-reached)
	}
	if body, _ := s.last(); !strings.Contains(body, `"requestState":"order=7.okü"`) {
		t.Errorf("the server got %s", body)
	}

	// It is not spent on what was denied, or did not leave.
	state = begin()
	g.apply(t, []string{"namespaces/default/grants/greet"})
	if _, got := g.post(t, retry("greet", `{"name":"Ann"}`, state)); !strings.Contains(got, `"reason":"not_granted"`) {
		t.Errorf("without a grant: %s", got)
	}
	g.apply(t, nil, allow("greet", "tool support/greet"))
	if _, got := g.post(t, retry("greet", `{"name":"Ann"}`, state)); !strings.Contains(got, "done") {
		t.Errorf("granted again: %s", got)
	}
}

// P1: what answers for good is not asked again: a state in it is no way to have
// the call made again uncounted.
func TestStateOfFinalResult(t *testing.T) {
	for _, kind := range []string{``, `"resultType":"complete",`, `"resultType":"task",`, `"resultType":"input_required","ResultType":"complete",`} {
		s := newShop()
		s.answers["tools/call"] = `{` + kind + `"content":[],"requestState":"x"}`
		g := newRig(t, s, allow("greet", "tool support/greet"))
		_, body := g.post(t, call(1, "greet", `{}`))
		var m struct{ Result struct{ RequestState string } }
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			t.Fatal(err)
		}
		again := strings.Replace(call(2, "greet", `{}`), `"arguments"`, `"requestState":"`+m.Result.RequestState+`","arguments"`, 1)
		if _, body := g.post(t, again); !strings.Contains(body, "-32602") || s.count("tools/call") != 1 {
			t.Errorf("%s: %s", kind, body)
		}
	}
}
