// Package report is the form in which every benchmark here tells its results.
package report

import (
	"fmt"
	"io"
	"slices"
)

// Line prints one result: what was measured, in what unit, its ratio to its
// anchor, and what that ratio has to be, as "<=1.2", or "-" if it has to be
// nothing.
func Line(out io.Writer, name string, value float64, unit string, ratio float64, target string) {
	_, _ = fmt.Fprintf(out, "bench %s %.4g %s %.3g %s\n", name, value, unit, ratio, target)
}

// Quantile returns the value that a share q of the values do not exceed; 0 of
// none. It leaves the values as they are.
func Quantile[T int64 | float64](values []T, q float64) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
