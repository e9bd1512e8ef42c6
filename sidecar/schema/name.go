package schema

import (
	"iter"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/word"
)

// Confusable reports whether two names of tools are different and could be
// taken for one another: they are the same without case, without separators
// (- _ . / and space), in compatibility form (NFKC), and with 0 for O and 1 for
// l and I. Letters of other scripts that look the same are not compared: names in
// the catalogue are ASCII.
func Confusable(a, b string) bool { return word.Confusable(a, b) }

// Near returns the known name that was probably meant by name: one that is
// Confusable with it, or else the one that the fewest letters tell apart, if
// few do; false if there is none. Of equally near names it is the first in
// order.
func Near(name string, known iter.Seq[string]) (string, bool) { return word.Near(name, known) }
