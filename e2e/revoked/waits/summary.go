package waits

import (
	"fmt"
	"slices"
	"time"
)

// Summary returns lines on how long waits took, apart by whether anything was
// wrong meanwhile.
func (j *Judge) Summary(all []Wait) []string {
	var calm, troubled []time.Duration
	for _, w := range all {
		if j.Calm(w) {
			calm = append(calm, w.End.Sub(w.Begin))
		} else {
			troubled = append(troubled, w.End.Sub(w.Begin))
		}
	}
	return []string{line("without a fault", calm), line("with a fault", troubled)}
}

func line(what string, took []time.Duration) string {
	n := len(took)
	if n == 0 {
		return "no waits " + what
	}
	slices.Sort(took)
	at := func(hundredths int) time.Duration { return took[(n-1)*hundredths/100].Round(100 * time.Microsecond) }
	return fmt.Sprintf("%d waits %s: p50 %v, p99 %v, max %v", n, what, at(50), at(99), at(100))
}
