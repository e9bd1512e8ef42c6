package pin_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/pin"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// notes takes note of what it is told; of nothing unpinned while full.
type notes struct {
	mu   sync.Mutex
	full bool
	all  []string
}

func (n *notes) add(as, server, tool string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, as+" "+server+" "+tool)
}

func (n *notes) Withheld(server, tool, _, _ string) { n.add("withheld", server, tool) }
func (n *notes) Accepted(server, tool, _, _ string) { n.add("accepted", server, tool) }

func (n *notes) Unpinned(server, tool, _, _ string) bool {
	n.add("unpinned", server, tool)
	return !n.full
}

func (n *notes) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.all
	n.all = nil
	slices.Sort(all)
	return all
}

func noting(t *testing.T, s *server) (*pin.Lists, *notes, string) {
	t.Helper()
	digest, _, err := schema.Digest([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	n := &notes{}
	l := pin.New(s, func(_, tool string) string { return map[string]string{"refund": digest}[tool] },
		n, func() time.Duration { return 0 })
	t.Cleanup(l.Close)
	return l, n, digest
}

const fresh = `{"name":"close","description":"Closes."}`

// Every definition is noted: of an own list each time, and of a list that passes
// once until there is another, or until it could be noted.
func TestNoted(t *testing.T) {
	l, n, digest := noting(t, &server{items: []string{good, fresh}})
	expect := func(want ...string) {
		t.Helper()
		if got := n.take(); !slices.Equal(got, want) {
			t.Errorf("noted %q, want %q", got, want)
		}
	}
	if err := l.Check(t.Context(), at, "refund", digest, bound); err != nil {
		t.Fatal(err)
	}
	expect("accepted desk refund", "unpinned desk close")
	pass := func(refund, other string) {
		p := l.Passing("desk")
		if p.Item("refund", []byte(refund), false) {
			t.Error("what is hidden is shown")
		}
		if !p.Item("close", []byte(other), true) {
			t.Error("what is not pinned is not shown")
		}
	}
	n.full = true
	pass(good, fresh)
	expect("accepted desk refund", "unpinned desk close")
	n.full = false
	pass(bad, fresh)
	expect("unpinned desk close", "withheld desk refund")
	pass(bad, fresh)
	expect()
	pass(good, strings.Replace(fresh, "Closes", "Opens", 1))
	expect("accepted desk refund", "unpinned desk close")
	pass(good, `{"name":"close","Name":"close"}`)
	expect()
}

// Of a server with many tools only so much is read of each list that passes.
func TestNotedSeldom(t *testing.T) {
	l, n, _ := noting(t, &server{})
	for range 20 {
		p := l.Passing("desk")
		for i := range 10_000 {
			name := fmt.Sprintf("t%d", i)
			p.Item(name, []byte(`{"name":"`+name+`","description":"`+strings.Repeat("x", 1000)+`"}`), true)
		}
		if got := len(n.take()); got == 0 || got > 128 {
			t.Fatalf("noted %d of one list", got)
		}
		if got := l.Passed(); got > 4096 {
			t.Fatalf("%d are remembered", got)
		}
	}
}
