package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// TestObservations: what was seen is kept beside the resources: it makes no change,
// and is none that a watch or a list tells of.
func TestObservations(t *testing.T) {
	s := newStore(t)
	before, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const server = "namespaces/shop/servers/desk"
	see := func(name, definition string) *storev1.Observation {
		t.Helper()
		o := &storev1.Observation{Tool: name, Definition: definition}
		if err := s.PutObservation(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	see(server+"/tools/b", "{}")
	a, b := see(server+"/tools/a", "{}"), see(server+"/tools/b", `{"name":"b"}`)
	other := see("namespaces/shop/servers/desk-2/tools/c", "{}")

	list := func(prefix, after string, limit int, more bool, want ...*storev1.Observation) {
		t.Helper()
		got, gotMore, err := s.Observations(t.Context(), prefix, after, limit)
		if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" || gotMore != more {
			t.Errorf("after %q: more %t, %v (-want +got):\n%s", after, gotMore, err, diff)
		}
	}
	list(server+"/", "", 10, false, a, b)
	list("namespaces/shop/servers/", "", 10, false, other, a, b)
	list(server+"/", "", 1, true, a)
	list(server+"/", a.GetTool(), 1, false, b)
	names, err := s.Observed(t.Context(), server+"/tools/")
	if diff := cmp.Diff([]string{a.GetTool(), b.GetTool()}, names); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	page, err := s.List(t.Context(), "namespaces/", "", 0, 0)
	if err != nil || len(page.Resources) > 0 {
		t.Errorf("listed as resources: %v, %v", page.Resources, err)
	}
	for _, name := range []string{a.GetTool(), a.GetTool(), server + "/tools/"} {
		if err := s.DropObservation(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	list("namespaces/", "", 10, false, other)
	if after, err := s.Head(t.Context()); err != nil || after.Revision != before.Revision {
		t.Errorf("the head went from %d to %d, %v", before.Revision, after.Revision, err)
	}
}
