package pins_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/pins"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

func tool(t *testing.T, name, description string) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(map[string]any{"name": name, "description": description, "inputSchema": map[string]any{"type": "object"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stored(t *testing.T, name string, definition *structpb.Struct) *grantv1.Tool {
	t.Helper()
	m := &grantv1.Tool{Name: "namespaces/x/servers/desk/tools/" + name, Definition: definition}
	if definition != nil {
		var err error
		if m.Digest, _, err = schema.DigestStruct(definition); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestCompare(t *testing.T) {
	t.Parallel()
	items, err := pins.Compare([]*grantv1.Tool{
		stored(t, "same", tool(t, "same", "a")), stored(t, "changed", tool(t, "changed", "a")), stored(t, "bare", nil), stored(t, "gone", nil),
	}, []*structpb.Struct{
		tool(t, "same", "a"), tool(t, "changed", "b"), tool(t, "bare", "a"), tool(t, "new/one", "a\u200bb"),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]pins.State)
	for _, i := range items {
		got[i.Name] = i.State
		if (i.State == pins.Changed) != (len(i.Changes) > 0) {
			t.Errorf("%s: changes %q", i.Name, i.Changes)
		}
		if (i.Name == "new/one") != (len(i.Warnings) > 0) {
			t.Errorf("%s: warnings %q", i.Name, i.Warnings)
		}
		if want := i.State == pins.New || i.State == pins.Unpinned; i.Pins(false) != want || i.Pins(true) != (want || i.State == pins.Changed) {
			t.Errorf("%s is %s: pinned %v, accepted %v", i.Name, i.State, i.Pins(false), i.Pins(true))
		}
	}
	want := map[string]pins.State{
		"same": pins.Same, "changed": pins.Changed, "bare": pins.Unpinned, "new/one": pins.New, "gone": pins.Gone,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestCompareRefuses: a server that could mean two tools by one name, or one by
// none, is pinned nothing of.
func TestCompareRefuses(t *testing.T) {
	t.Parallel()
	for _, served := range [][]*structpb.Struct{
		{tool(t, "a", "x"), tool(t, "a", "y")}, {tool(t, "", "x")}, {tool(t, "a b", "x")}, {tool(t, strings.Repeat("a", 129), "x")}, {{}},
	} {
		if _, err := pins.Compare(nil, served); err == nil {
			t.Errorf("%v was taken", served)
		}
	}
}

// TestClassify: nothing is classified that nobody classified, and what the
// catalogue has is not changed but by name.
func TestClassify(t *testing.T) {
	t.Parallel()
	items := []*pins.Item{{Name: "new", State: pins.New}, {Name: "own", State: pins.New}, {Name: "old", State: pins.Unpinned}, {Name: "named", State: pins.Unpinned}}
	_, own, err := pins.ParseClass("own=destructive")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]pins.Class{"own": own, "named": {Effect: grantv1.Tool_READ}}
	without, err := pins.Classify(items, pins.Class{Effect: grantv1.Tool_WRITE}, named)
	if err != nil || len(without) != 2 { // the reach of both is not said
		t.Fatalf("without a class: %v, %v", without, err)
	}
	without, err = pins.Classify(items, pins.Class{Effect: grantv1.Tool_WRITE, Reach: grantv1.Tool_CLOSED}, named)
	if err != nil || len(without) != 0 {
		t.Fatalf("without a class: %v, %v", without, err)
	}
	got := map[string][2]int32{}
	for _, i := range items {
		got[i.Name] = [2]int32{int32(i.Effect), int32(i.Reach)}
	}
	if diff := cmp.Diff(map[string][2]int32{"new": {2, 1}, "own": {3, 1}, "old": {0, 0}, "named": {1, 0}}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := pins.Classify(items, pins.Class{}, map[string]pins.Class{"other": own}); err == nil {
		t.Error("a class of no tool was taken")
	}
	for _, bad := range []string{"", "x", "=read", "x=harmless", "x=read,near"} {
		if _, _, err := pins.ParseClass(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
