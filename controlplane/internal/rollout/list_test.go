package rollout

import (
	"testing"
	"testing/synctest"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// A sidecar that refuses thousands of resources is told of with a few of them: it
// must not make what a waiter hears too long to be heard.
func TestManyRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Bound: bound})
		r.Publish(1, touch("a"))
		if err := r.Open(stream("s", "a")); err != nil {
			t.Fatal(err)
		}
		all := make([]*adminv1.Refusal, 1000)
		for i := range all {
			all[i] = new(adminv1.Refusal)
		}
		r.Refuse("s", all)
		if n := len(r.List()[0].GetRefusals()); n != maxRefusals {
			t.Errorf("%d refusals are told of, want %d", n, maxRefusals)
		}
	})
}
