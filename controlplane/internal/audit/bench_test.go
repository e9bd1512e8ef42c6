package audit

import (
	"fmt"
	"testing"
)

// BenchmarkIngest pushes records over gRPC until each is acknowledged, which
// is when it is on the disk. An operation is one record.
func BenchmarkIngest(b *testing.B) {
	for _, bc := range []struct {
		name    string
		senders int
		batch   int64
	}{
		{"senders=1/batch=1024", 1, 1024},
		{"senders=16/batch=1024", 16, 1024},
		{"senders=16/batch=64", 16, 64},
		{"senders=16/batch=1", 16, 1},
		{"senders=1000/batch=1", 1000, 1},
		{"senders=1000/batch=10", 1000, 10},
	} {
		b.Run(bc.name, func(b *testing.B) {
			client, _ := serve(b, openLog(b, b.TempDir()))
			each := int64(b.N/bc.senders + 1)
			chains := make([]*chain, bc.senders)
			for i := range chains {
				chains[i] = aChain(0)
				chains[i].instance = fmt.Sprintf("%032x", i)
				for range each {
					chains[i].allow()
				}
			}
			streams := make([]pusher, bc.senders)
			for i := range streams {
				streams[i] = openPush(b, client, agentA)
			}
			b.ResetTimer()
			done := make(chan error, bc.senders)
			for i, c := range chains {
				go func() {
					for first := int64(1); first <= each; first += bc.batch {
						if _, err := push(streams[i], c.batch(first, min(first+bc.batch-1, each))); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range chains {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(each*int64(bc.senders))/b.Elapsed().Seconds(), "records/s")
		})
	}
}
