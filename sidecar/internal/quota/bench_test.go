package quota

import (
	"testing"
	"time"
)

// BenchmarkTake is what counting costs a call, with a file.
func BenchmarkTake(b *testing.B) {
	for name, wants := range map[string][]Want{
		"calls":         {calls("u", 1<<40)},
		"rate":          {rate("u", maxRate, 1)},
		"grant+session": {calls("u", 1<<40), {Key: SessionKey("s", time.Unix(1, 0)), Limits: Limits{Max: 1 << 40}}},
	} {
		b.Run(name, func(b *testing.B) {
			q := openFile(b, b.TempDir(), newClock())
			q.now = time.Now
			b.ReportAllocs()
			for b.Loop() {
				if _, room := q.Take(wants...); room != Free {
					b.Fatal(room)
				}
			}
		})
	}
}

// BenchmarkLook is what asking costs a decision.
func BenchmarkLook(b *testing.B) {
	for name, w := range map[string]Want{"calls": calls("u", 1<<40), "rate": rate("u", 10, 1), "none": calls("v", 1)} {
		b.Run(name, func(b *testing.B) {
			q := openFile(b, b.TempDir(), newClock())
			q.now = time.Now
			_, _ = q.Take(calls("u", 1<<40))
			b.ReportAllocs()
			for b.Loop() {
				if q.Look(&w) != Free {
					b.Fatal("not free")
				}
			}
		})
	}
}
