package rule

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/word"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// explain finds out why an object does not satisfy the schema.
func (s *Schema) explain(o *strictjson.Object) error {
	r := run{steps: maxSteps, explain: true}
	if !r.level(s.root, o, true) && r.found != nil && !r.spent() {
		return r.found
	}
	return &ArgumentError{Place: "arguments", Problem: "they take too long to hold against the schema; send fewer"}
}

// fail notes a problem at the place where the run is, and returns false.
func (r *run) fail(problem string) bool {
	if r.explain {
		r.found = &ArgumentError{Place: "arguments" + strings.Join(r.place, ""), Problem: problem}
	}
	return false
}

// missing notes that a member is not there.
func (r *run) missing(name string) bool {
	r.place = append(r.place, Step(name, false))
	r.fail("it is required")
	r.place = r.place[:len(r.place)-1]
	return false
}

// unnamed notes that a member of the object at the place is not named by n or
// what applies beside it.
func (r *run) unnamed(n *node, name string) {
	if !r.explain {
		return
	}
	problem := "the schema has no such argument"
	if near, ok := word.Near(name, maps.Keys(n.nameable())); ok {
		problem += "; did you mean " + word.Show(near, maxName) + "?"
	}
	r.place = append(r.place, Step(name, false))
	r.fail(problem)
	r.place = r.place[:len(r.place)-1]
}

// allNamed reports whether n, or whatever may apply beside it, could name all
// members of v: where it cannot, a misspelt name is a better explanation than
// what follows from it.
func (r *run) allNamed(n *node, v strictjson.Value, outermost bool) bool {
	o, isObject := v.(*strictjson.Object)
	if !isObject || r.open || o.Len() == 0 {
		return true
	}
	names := n.nameable()
	if names[anyName] || len(names) == 0 && !outermost {
		return true
	}
	for name := range o.All() {
		if !names[name] {
			r.unnamed(n, name)
			return false
		}
	}
	return true
}

// anyName stands for members that cannot be listed.
const anyName = "\x00"

// nameable is what n and whatever may apply beside it name.
func (n *node) nameable() map[string]bool {
	names := make(map[string]bool)
	n.addNames(names, make(map[*node]bool))
	return names
}

func (n *node) addNames(names map[string]bool, seen map[*node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.obj != nil {
		for name := range n.obj.properties {
			names[name] = true
		}
		if opens(n.obj.additional) || opens(n.obj.unevaluated) || len(n.obj.patterns) > 0 {
			names[anyName] = true
		}
	}
	n.beside(func(m *node) { m.addNames(names, seen) })
	for _, list := range [...][]*node{n.anyOf, n.oneOf} {
		for _, m := range list {
			if (m.types == 0 || m.types&isObject != 0) && !m.apart && (m.obj == nil || !m.obj.names) {
				names[anyName] = true
			}
		}
	}
}

// opens reports whether n lets something through.
func opens(n *node) bool { return n != nil && !n.never }

// none explains why a value fits none of the alternatives: by the one that got
// furthest into it, or by what they want it to be.
func (r *run) none(alternatives []*node, v strictjson.Value) bool {
	place := len(r.place)
	var best *ArgumentError
	furthest := place
	var wanted kinds
	for _, a := range alternatives {
		if want := a.types; want == 0 || want&kindOf(v) != 0 {
			wanted = isAny
		} else {
			wanted |= want
			continue
		}
		tried := run{steps: r.steps, explain: true, open: r.open, place: slices.Clone(r.place)}
		_, _ = tried.apply(a, v)
		r.steps = tried.steps
		if tried.found != nil && (best == nil || depth(tried.found.Place) > furthest) {
			best, furthest = tried.found, depth(tried.found.Place)
		}
	}
	switch {
	case wanted != isAny:
		return r.fail("want " + wanted.String())
	case best != nil:
		r.found = best
		return false
	default:
		return r.fail("it fits none of the alternatives")
	}
}

// depth is how far below the arguments a place is.
func depth(place string) int { return strings.Count(place, ".") + strings.Count(place, "[") }

// String returns "a string or null".
func (k kinds) String() string {
	var words []string
	for _, w := range []struct {
		kind kinds
		word string
	}{
		{isString, "a string"}, {isBoolean, "true or false"}, {isArray, "an array"}, {isObject, "an object"}, {isNull, "null"},
	} {
		if k&w.kind != 0 {
			words = append(words, w.word)
		}
	}
	switch {
	case k&isNumber == isNumber:
		words = slices.Insert(words, 0, "a number")
	case k&isInteger != 0:
		words = slices.Insert(words, 0, "an integer")
	}
	return strings.Join(words, " or ")
}

// shownValues is how many values of an enum a problem lists.
const shownValues = 8

func oneOfThese(values []strictjson.Value) string {
	if len(values) == 0 {
		return "nothing may be here"
	}
	var shown []string
	for _, v := range values[:min(len(values), shownValues)] {
		shown = append(shown, text(v))
	}
	if len(values) > shownValues {
		return fmt.Sprintf("want one of %s and %d more", strings.Join(shown, ", "), len(values)-shownValues)
	}
	if len(shown) == 1 {
		return "want " + shown[0]
	}
	return "want one of " + strings.Join(shown, ", ")
}

// text shows a value of the schema.
func text(v strictjson.Value) string { return word.Show(string(strictjson.Append(nil, v)), maxName) }

func atLeast(n int, noun string) string { return "want at least " + counted(n, noun) }

func atMost(n int, noun string) string { return "want at most " + counted(n, noun) }

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// maxName is how much of a name or a value is shown, in bytes.
const maxName = 64

// Step writes the step to a member as a place does: .name, or ["a name"]. A
// place begins with the name.
func Step(name string, first bool) string {
	for i := range len(name) {
		c := name[i]
		if c != '_' && c != '$' && c|0x20-'a' >= 26 && (i == 0 || c-'0' >= 10) {
			return `["` + word.Show(strings.ReplaceAll(name, `"`, `\"`), maxName) + `"]`
		}
	}
	switch {
	case name == "":
		return `[""]`
	case first:
		return word.Show(name, maxName)
	default:
		return "." + word.Show(name, maxName)
	}
}

// Index writes the step to an element.
func Index(i int) string { return "[" + strconv.Itoa(i) + "]" }
