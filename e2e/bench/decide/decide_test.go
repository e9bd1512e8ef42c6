package main

import (
	"fmt"
	"testing"

	"github.com/reeve-authz/reeve/e2e/bench/workload"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

var sizes = []int{10, 1_000, 100_000}

func loaded(tb testing.TB, w *workload.Workload) *grant.Snapshot {
	tb.Helper()
	entries, err := w.Catalogue(false)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := workload.Load(grant.Empty().Apply(1, entries, nil), w.Messages())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestEnginesAgree is what makes their times comparable.
func TestEnginesAgree(t *testing.T) {
	t.Parallel()
	for _, n := range []int{10, 1_000} {
		w := workload.New(n)
		reeve, err := newReeve(w, loaded(t, w))
		if err != nil {
			t.Fatal(err)
		}
		cel, err := newCEL(w)
		if err != nil {
			t.Fatal(err)
		}
		pinned, err := newPinned(w)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []engine{newFloor(w), cel, reeve, newReeveParsed(w, loaded(t, w)), pinned} {
			if err := check(w, e); err != nil {
				t.Errorf("%d grants: %v", n, err)
			}
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range sizes {
		w := workload.New(n)
		s := loaded(b, w)
		reeve, err := newReeve(w, s)
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range []engine{newFloor(w), reeve, newReeveParsed(w, s)} {
			b.Run(fmt.Sprintf("%s/%d", e.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					e.decide(i % len(w.Requests))
				}
			})
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes {
		w := workload.New(n)
		messages := w.Messages()
		entries, err := w.Catalogue(false)
		if err != nil {
			b.Fatal(err)
		}
		s := grant.Empty().Apply(1, entries, nil)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := workload.Load(s, messages); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOneChange(b *testing.B) {
	for _, n := range sizes {
		w := workload.New(n)
		s := loaded(b, w)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				var err error
				if s, err = change(s, w, i%n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
