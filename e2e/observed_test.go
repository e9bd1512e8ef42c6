package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// TestObserved: a server that nobody asks but a sidecar is pinned by what that saw of
// its tools, and so is what it says of them later. What was accepted is not shown as
// something to look at any more, and agents may call it.
func TestObserved(t *testing.T) {
	y := &yard{Stack: start(t, stack.Config{FreshnessBound: time.Second}), t: t, shop: newShop(t, payTool, noteTool), evil: newShop(t)}
	y.apply(shopYAML("shop", y.shop.url, "---\nkind: Tool\nname: namespaces/"+stack.Namespace+"/servers/shop/tools/pay\neffect: WRITE\nreach: CLOSED\n"+
		shopGrant("shopping", "tool: shop/*", "")))
	_, secret, err := y.Endpoint("shop")
	if err != nil {
		t.Fatal(err)
	}
	y.secret = secret
	observed := func() []string {
		var names []string
		for line := range strings.Lines(y.reevectl("tool", "observed", "shop", "-n", stack.Namespace, "-o", "name")) {
			names = append(names, strings.TrimSpace(line[strings.LastIndex(line, "/")+1:]))
		}
		return names
	}
	if tools := y.tools("shop"); !slices.Equal(tools, []string{"pay"}) {
		t.Errorf("lists %q; want what is in the catalogue", tools)
	}
	eventually(t, "the sidecar reports what is not pinned", func() bool { return slices.Equal(observed(), []string{"note", "pay"}) })

	imports := []string{"tool", "import", "shop", "-n", stack.Namespace, "--observed", "--effect", "write", "--reach", "closed", "--wait"}
	if said := y.reevectl(imports...); !strings.Contains(said, "tools/note created") || !strings.Contains(said, "tools/pay pinned") {
		t.Errorf("imported: %s", said)
	}
	if names := observed(); len(names) > 0 {
		t.Errorf("what was accepted is shown still: %q", names)
	}
	y.passes(y.call("shop", "note", `{"text":"it was seen"}`))

	y.shop.lists(strings.Replace(payTool, "Pays somebody.", "Pays somebody else.", 1), noteTool)
	eventually(t, "the sidecar withholds what changed", func() bool { return !slices.Contains(y.tools("shop"), "pay") })
	eventually(t, "and reports it", func() bool { return slices.Equal(observed(), []string{"pay"}) })
	if said := y.reevectl(append(imports, "--accept")...); !strings.Contains(said, "tools/pay accepted") {
		t.Errorf("accepted: %s", said)
	}
	if names := observed(); len(names) > 0 {
		t.Errorf("what was accepted is shown still: %q", names)
	}
	eventually(t, "what was accepted can be called", func() bool { return !isError(y.call("shop", "pay", fair)) })
}

// reevectl runs reevectl, which must succeed, and returns what it printed.
func (y *yard) reevectl(args ...string) string {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), patience)
	defer cancel()
	out, err := y.Reevectl(ctx, args...)
	if err != nil {
		y.t.Fatal(err)
	}
	return string(out)
}
