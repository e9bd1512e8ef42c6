package main

import (
	"testing"

	"github.com/reeve-authz/reeve/e2e/bench/workload"
)

// TestEnginesAgree is what makes their times comparable: each says what the
// oracle says of some thousand calls.
func TestEnginesAgree(t *testing.T) {
	t.Parallel()
	for _, n := range []int{10, 200, grants} {
		if _, err := enginesOf(t.Context(), workload.New(n)); err != nil {
			t.Errorf("%d grants: %v", n, err)
		}
	}
}
