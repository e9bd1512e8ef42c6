package store

import (
	"fmt"
	"testing"
)

func BenchmarkUpdate(b *testing.B) {
	s := etcd
	for i := 0; b.Loop(); i++ {
		_, err := s.Update(b.Context(), Meta{Actor: "bench", Action: "put"}, func(tx *Tx) error {
			return tx.Put(agentName(fmt.Sprint("b", i)), agent("b", fmt.Sprint(i)))
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHead(b *testing.B) {
	for b.Loop() {
		if _, err := etcd.Head(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoad reads 20,000 resources with the 200 records of their changes.
func BenchmarkLoad(b *testing.B) {
	const changes, each = 200, 100
	for i := range changes {
		_, err := etcd.Update(b.Context(), Meta{Actor: "bench", Action: "put"}, func(tx *Tx) error {
			for j := range each {
				id := fmt.Sprint("l", i*each+j)
				if err := tx.Put(agentName(id), agent(id, "ann")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		w := &watch{store: etcd, held: make(map[string]int64), handle: func(Event) error { return nil }}
		if err := w.catchUp(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
