package grant_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

func bounded(id string, bound time.Duration) *grantv1.Grant {
	g := stored()
	g.Name = grant.GrantName("shop", id)
	if bound != 0 {
		g.FreshnessBound = durationpb.New(bound)
	}
	return g
}

// P2: a grant's own bound reaches the sidecar, and one that is unset is not a
// bound of zero.
func TestFreshnessBound(t *testing.T) {
	t.Parallel()
	for _, want := range []time.Duration{0, time.Second, 2500 * time.Millisecond, 15 * time.Minute} {
		g, err := grant.ParseGrant(grant.Project(bounded("a", want)), 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.FreshnessBound(); got != want {
			t.Errorf("bound %s, want %s", got, want)
		}
	}
	for _, bad := range []struct {
		bound  *durationpb.Duration
		effect grantv1.Grant_Effect
		want   string
	}{
		{&durationpb.Duration{}, grantv1.Grant_ALLOW, "0s is not from 1s to 15m0s"},
		{durationpb.New(time.Second - 1), grantv1.Grant_ALLOW, "999.999999ms is not from"},
		{durationpb.New(15*time.Minute + 1), grantv1.Grant_ALLOW, "15m0.000000001s is not from"},
		{durationpb.New(-time.Minute), grantv1.Grant_ALLOW, "-1m0s is not from"},
		{&durationpb.Duration{Seconds: 1, Nanos: -1}, grantv1.Grant_ALLOW, "invalid"},
		{durationpb.New(time.Minute), grantv1.Grant_FORBID, "only an ALLOW has one"},
	} {
		m := stored()
		m.Effect, m.FreshnessBound = bad.effect, bad.bound
		_, err := grant.ParseGrant(m, 1)
		if !errors.Is(err, grant.ErrInvalid) || !strings.HasPrefix(err.Error(), "freshness_bound: invalid") || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%v %v: %v", bad.effect, bad.bound, err)
		}
	}
}

// TestBounds: whatever the way to a snapshot, its bounds are those of the grants
// that it holds, and those of the snapshots on the way never change.
func TestBounds(t *testing.T) {
	t.Parallel()
	choice := rapid.SampledFrom([]time.Duration{0, 0, time.Second, 2 * time.Second, time.Minute})
	rapid.Check(t, func(rt *rapid.T) {
		held := make(map[string]time.Duration)
		s := grant.Empty()
		var before *grant.Snapshot
		var was []time.Duration
		for step := range rapid.IntRange(1, 10).Draw(rt, "steps") {
			var upsert []grant.Entry
			var remove []string
			for n := range 5 {
				name := grant.GrantName("shop", fmt.Sprintf("g%d", n))
				switch rapid.SampledFrom([]string{"keep", "put", "remove", "replace"}).Draw(rt, "change") {
				case "remove":
					remove = append(remove, name)
					delete(held, name)
				case "replace":
					remove = append(remove, name)
					fallthrough
				case "put":
					held[name] = choice.Draw(rt, "bound")
					g, err := grant.ParseGrant(bounded(fmt.Sprintf("g%d", n), held[name]), int64(step))
					if err != nil {
						rt.Fatal(err)
					}
					upsert = append(upsert, g)
				}
			}
			if before != nil && !slices.Equal(boundsOf(before), was) {
				rt.Fatalf("the bounds of an earlier snapshot became %v, were %v", boundsOf(before), was)
			}
			before, was = s, boundsOf(s)
			s = s.Apply(int64(step)+1, upsert, remove)
			var want []time.Duration
			for _, b := range held {
				if b != 0 && !slices.Contains(want, b) {
					want = append(want, b)
				}
			}
			slices.Sort(want)
			if got := boundsOf(s); !slices.Equal(got, want) {
				rt.Fatalf("bounds %v, want %v", got, want)
			}
			if len(want) > 0 && (s.ShortestBound() != want[0] || s.LongestBound() != want[len(want)-1]) {
				rt.Fatalf("from %s to %s, want %v", s.ShortestBound(), s.LongestBound(), want)
			}
			if len(want) == 0 && (s.ShortestBound() != 0 || s.LongestBound() != 0) {
				rt.Fatalf("from %s to %s, and there is none", s.ShortestBound(), s.LongestBound())
			}
		}
	})
}

// boundsOf returns the bounds of a snapshot, ascending.
func boundsOf(s *grant.Snapshot) (all []time.Duration) {
	for b := s.BoundAfter(0); b > 0; b = s.BoundAfter(b) {
		all = append(all, b)
	}
	return all
}
