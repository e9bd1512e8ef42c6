// Package word compares names, and shows text as a person can see it.
package word

import (
	"iter"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Confusable reports whether two names are different and could be taken for one
// another.
func Confusable(a, b string) bool { return a != b && folded(a) == folded(b) }

// folded is the same for names that could be taken for one another.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '-', '_', '.', '/', ' ', '\u00ad':
			return -1
		case '0':
			return 'o'
		case '1', 'i', '|':
			return 'l'
		}
		if Kind(r) != "" {
			return -1
		}
		return r
	}, strings.ToLower(norm.NFKC.String(strings.ToLower(norm.NFKC.String(name)))))
}

// longest is the longest name that is compared letter by letter, in bytes.
const longest = 128

// Near returns the known name that was probably meant by name: one that is
// Confusable with it, or else the one that the fewest letters tell apart, if
// few do. Of equally near names it is the first in order.
func Near(name string, known iter.Seq[string]) (string, bool) {
	best, found := "", false
	fold, limit := folded(name), max(1, len(name)/3)
	for k := range known {
		d := limit + 1
		switch {
		case k == name:
			continue
		case folded(k) == fold:
			d = 0
		case len(name) <= longest && len(k) <= longest:
			d = distance(name, k)
		}
		if d < limit || d == limit && (!found || k < best) {
			best, limit, found = k, d, true
		}
	}
	return best, found
}

// distance is the number of letters to add, drop, change or exchange with their
// neighbour (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
