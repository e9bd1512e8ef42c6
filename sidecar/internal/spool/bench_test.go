package spool

import (
	"runtime"
	"testing"
)

// BenchmarkAppend appends records of the usual size.
func BenchmarkAppend(b *testing.B) {
	var record Entry = fixed(make([]byte, 350))
	appendOne := func(b *testing.B, s *Spool) {
		b.Helper()
		if _, err := s.Append(record, 0); err != nil {
			b.Error(err)
		}
	}
	b.Run("callers=1", func(b *testing.B) {
		s, _ := mustOpen(b, Config{Dir: b.TempDir(), Instance: instanceA, MaxBytes: 64 << 30})
		b.ReportAllocs()
		for b.Loop() {
			appendOne(b, s)
		}
	})
	b.Run("callers=16", func(b *testing.B) {
		s, _ := mustOpen(b, Config{Dir: b.TempDir(), Instance: instanceA, MaxBytes: 64 << 30})
		b.ReportAllocs()
		b.SetParallelism(max(1, 16/runtime.GOMAXPROCS(0)))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				appendOne(b, s)
			}
		})
	})
}

// fixed is a record that does not depend on its place.
type fixed []byte

func (f fixed) AppendRecord(dst []byte, _ int64, _ []byte) ([]byte, error) {
	return append(dst, f...), nil
}
