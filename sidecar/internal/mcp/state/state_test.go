package state_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/state"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

func digest(tb testing.TB, params string) [32]byte {
	tb.Helper()
	v, err := strictjson.Parse([]byte(params), strictjson.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return state.Digest(v.(*strictjson.Object))
}

func binding(tb testing.TB) state.Binding {
	tb.Helper()
	return state.Binding{
		Server: "desk", Upstream: "s1", Session: "run", Method: "tools/call",
		Params: digest(tb, `{"name":"refund","arguments":{"cents":100}}`),
	}
}

// P1: a state is good for the request that it was given for, and for no other.
func TestForeign(t *testing.T) {
	t.Parallel()
	s := state.New()
	const text = "opaque.to=everyone ü"
	sealed := s.Seal(binding(t), text, nil)
	for name, change := range map[string]func(*state.Binding){
		"server":    func(b *state.Binding) { b.Server = "other" },
		"upstream":  func(b *state.Binding) { b.Upstream = "s2" },
		"session":   func(b *state.Binding) { b.Session = "" },
		"shifted":   func(b *state.Binding) { b.Server, b.Upstream = "desks", "1" },
		"method":    func(b *state.Binding) { b.Method = "prompts/get" },
		"name":      func(b *state.Binding) { b.Params = digest(t, `{"name":"Refund","arguments":{"cents":100}}`) },
		"arguments": func(b *state.Binding) { b.Params = digest(t, `{"name":"refund","arguments":{"cents":101}}`) },
		"none":      func(b *state.Binding) { b.Params = digest(t, `{"name":"refund"}`) },
	} {
		b := binding(t)
		change(&b)
		if _, _, err := s.Open(b, sealed); !errors.Is(err, state.ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, forged := range []string{
		"", ".", text, sealed + "x", strings.TrimPrefix(sealed, sealed[:1]), strings.Replace(sealed, ".opaque", ".other", 1),
		sealed[:len(sealed)-1], strings.SplitN(sealed, ".", 2)[0],
	} {
		if _, _, err := s.Open(binding(t), forged); !errors.Is(err, state.ErrForeign) {
			t.Errorf("%q: %v", forged, err)
		}
	}
	if _, _, err := state.New().Open(binding(t), sealed); !errors.Is(err, state.ErrForeign) {
		t.Errorf("of another sidecar: %v", err)
	}
	again := binding(t)
	again.Params = digest(t, `{"arguments":{"cents":1e2},"name":"refund","inputResponses":{"a":1},"requestState":"x","_meta":{}}`)
	got, ticket, err := s.Open(again, sealed)
	if err != nil || got != text {
		t.Fatalf("the request asked again: %q, %v", got, err)
	}
	if err := ticket.Spend(); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Open(again, sealed); !errors.Is(err, state.ErrSpent) {
		t.Errorf("a second time: %v", err)
	}
	ticket.Return()
	if _, _, err := s.Open(again, sealed); err != nil {
		t.Errorf("after nothing had left: %v", err)
	}
}

// P1: of many that use one state at once, one does.
func TestOnce(t *testing.T) {
	t.Parallel()
	s := state.New()
	sealed := s.Seal(binding(t), "x", nil)
	var spent atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if _, ticket, err := s.Open(binding(t), sealed); err == nil && ticket.Spend() == nil {
				spent.Add(1)
			}
		})
	}
	all.Wait()
	if got := spent.Load(); got != 1 {
		t.Errorf("spent %d times", got)
	}
}

// What is kept is bounded: the oldest is forgotten.
func TestForgets(t *testing.T) {
	t.Parallel()
	s := state.New()
	first := s.Seal(binding(t), "first", nil)
	for range 4095 {
		s.Seal(binding(t), "x", nil)
	}
	_, ticket, err := s.Open(binding(t), first)
	if err != nil {
		t.Fatalf("before the last: %v", err)
	}
	s.Seal(binding(t), "last", nil)
	if _, _, err := s.Open(binding(t), first); !errors.Is(err, state.ErrSpent) {
		t.Errorf("after: %v", err)
	}
	if err := ticket.Spend(); !errors.Is(err, state.ErrSpent) {
		t.Errorf("spend what is forgotten: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s := state.New()
	sealed := s.Seal(binding(f), "state", nil)
	f.Add(sealed)
	f.Add("AAAA.state")
	f.Fuzz(func(t *testing.T, text string) {
		if got, _, err := s.Open(binding(t), text); err == nil && text != sealed {
			t.Fatalf("%q opens as %q", text, got)
		}
	})
}
