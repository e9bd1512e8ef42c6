package kind_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// TestKindsAreThoseOfApply: what can be applied is what can be named in a file.
func TestKindsAreThoseOfApply(t *testing.T) {
	t.Parallel()
	fields := (&adminv1.Resource{}).ProtoReflect().Descriptor().Fields()
	if fields.Len() != len(kind.All()) {
		t.Errorf("apply takes %d kinds; there are %d", fields.Len(), len(kind.All()))
	}
	for _, k := range kind.All() {
		m := k.New()
		if of, err := kind.Of(m); err != nil || of.Name != k.Name {
			t.Errorf("Of(%s) = %s, %v", k.Name, of.Name, err)
		}
		wrapped := k.Wrap(m).ProtoReflect()
		f := wrapped.WhichOneof(wrapped.Descriptor().Oneofs().Get(0))
		if f == nil || string(f.Name()) != k.Singular || !proto.Equal(wrapped.Get(f).Message().Interface(), m) {
			t.Errorf("wrapped %s: %v", k.Name, wrapped)
		}
		for _, word := range []string{k.Singular, k.Plural, strings.ToUpper(k.Plural)} {
			if of, err := kind.Parse(word); err != nil || of.Name != k.Name {
				t.Errorf("Parse(%s) = %s, %v", word, of.Name, err)
			}
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind           kind.Kind
		id, name, back string
	}{
		{kind.Namespace, "support", "namespaces/support", "support"},
		{kind.Agent, "frontline", "namespaces/ns/agents/frontline", "frontline"},
		{kind.Agent, "namespaces/other/agents/frontline", "namespaces/other/agents/frontline", "frontline"},
		{kind.Server, "desk", "namespaces/ns/servers/desk", "desk"},
		{kind.Tool, "desk/refund", "namespaces/ns/servers/desk/tools/refund", "desk/refund"},
		{kind.Tool, "desk/a/b", "namespaces/ns/servers/desk/tools/a/b", "desk/a/b"},
		{kind.Tool, "namespaces/o/servers/s/tools/a/b/c", "namespaces/o/servers/s/tools/a/b/c", "s/a/b/c"},
		{kind.Grant, "refunds", "namespaces/ns/grants/refunds", "refunds"},
	} {
		name, err := c.kind.FullName(c.id, "ns")
		if err != nil || name != c.name {
			t.Errorf("%s %q: %q, %v; want %q", c.kind.Singular, c.id, name, err, c.name)
		}
		if got := kind.Short(name); got != c.back {
			t.Errorf("Short(%q) = %q; want %q", name, got, c.back)
		}
	}
	for _, c := range []struct {
		kind kind.Kind
		id   string
	}{
		{kind.Agent, ""},
		{kind.Agent, "a/b"},
		{kind.Agent, "namespaces/ns"},
		{kind.Agent, "namespaces/ns/grants/g"},
		{kind.Agent, "namespaces/ns/agents"},
		{kind.Tool, "refund"},
		{kind.Tool, "/refund"},
		{kind.Tool, "desk/"},
		{kind.Tool, "namespaces/ns/servers/desk"},
		{kind.Namespace, "a/b"},
		{kind.Namespace, "namespaces/ns/agents/a"},
	} {
		if name, err := c.kind.FullName(c.id, "ns"); err == nil {
			t.Errorf("%s %q was taken for %q", c.kind.Singular, c.id, name)
		}
	}
}
