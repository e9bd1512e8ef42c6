package spelling_test

import (
	"slices"
	"testing"

	"github.com/reeve-authz/reeve/controlplane/spelling"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"targets", "subjects", "selector", "expireTime", "tool"}
	for word, want := range map[string]string{
		"tagets":      "targets",
		"target":      "targets",
		"expiretime":  "expireTime",
		"expire_time": "expireTime",
		"tools":       "tool",
		"nothing":     "",
		"":            "",
	} {
		got, ok := spelling.Nearest(word, slices.Values(known))
		if got != want || ok != (want != "") {
			t.Errorf("Nearest(%q) = %q, %v; want %q", word, got, ok, want)
		}
	}
}

func TestNearestPrefersTheFirstInOrder(t *testing.T) {
	t.Parallel()
	for _, known := range [][]string{{"bat", "cat"}, {"cat", "bat"}} {
		if got, _ := spelling.Nearest("rat", slices.Values(known)); got != "bat" {
			t.Errorf("Nearest(rat) of %v = %q; want bat", known, got)
		}
	}
}
