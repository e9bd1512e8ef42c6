// Package spelling finds the word that was probably meant.
package spelling

import "iter"

// Nearest returns the known word that is nearest to a misspelt one, or false if
// none is near. Of equally near words it returns the first in order.
func Nearest(word string, known iter.Seq[string]) (string, bool) {
	best, found := "", false
	limit := max(1, len(word)/3)
	for k := range known {
		d := distance(word, k)
		if d < limit || d == limit && (!found || k < best) {
			best, limit, found = k, d, true
		}
	}
	return best, found
}

// distance is the number of letters to add, drop or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
