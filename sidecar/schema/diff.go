package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/rule"
	"github.com/reeve-authz/reeve/sidecar/schema/internal/value"
	"github.com/reeve-authz/reeve/sidecar/schema/internal/word"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// A Difference is one place at which two definitions differ.
type Difference struct {
	// Path is such as inputSchema.properties.to.type or required[2].
	Path string
	// Before and After are the values as JSON, shortened to where they differ,
	// with characters that do not show written as escapes; empty where there is
	// none.
	Before, After string
}

const (
	// MaxDifferences is how many differences Diff lists; the last one, without a
	// path, says how many more there are.
	MaxDifferences = 100
	// shownValue is how much of a value is shown, in bytes, and shownContext how
	// much of what comes before the place where two differ.
	shownValue   = 200
	shownContext = 40
)

// Diff lists where two definitions differ, for people, in the order of the
// paths. Either may be empty, which is no definition. The error wraps
// ErrInvalid.
func Diff(before, after string) ([]Difference, error) {
	old, err := definition(before)
	if err != nil {
		return nil, err
	}
	now, err := definition(after)
	if err != nil {
		return nil, err
	}
	var d differences
	d.objects("", old, now)
	if more := len(d.found) - MaxDifferences; more > 0 {
		d.found = append(d.found[:MaxDifferences-1], Difference{After: fmt.Sprintf("%d more differences", more+1)})
	}
	return d.found, nil
}

// definition reads a definition; none is an empty one.
func definition(text string) (*strictjson.Object, error) {
	if text == "" {
		return nil, nil
	}
	o, err := rule.Parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%w definition: %w", ErrInvalid, err)
	}
	return o, nil
}

type differences struct{ found []Difference }

func (d *differences) objects(path string, before, after *strictjson.Object) {
	for _, name := range names(before, after) {
		old, was := before.Get(name)
		now, is := after.Get(name)
		d.values(path+rule.Step(name, path == ""), old, was, now, is)
	}
}

// names returns the names of two objects, in order.
func names(a, b *strictjson.Object) []string {
	all := make(map[string]bool, a.Len()+b.Len())
	for name := range a.All() {
		all[name] = true
	}
	for name := range b.All() {
		all[name] = true
	}
	return slices.Sorted(maps.Keys(all))
}

func (d *differences) values(path string, before strictjson.Value, was bool, after strictjson.Value, is bool) {
	if was && is {
		if value.Equal(before, after) {
			return
		}
		if old, now, ok := both[*strictjson.Object](before, after); ok {
			d.objects(path, old, now)
			return
		}
		if old, now, ok := both[[]strictjson.Value](before, after); ok {
			for i := range max(len(old), len(now)) {
				d.values(path+rule.Index(i), at(old, i), i < len(old), at(now, i), i < len(now))
			}
			return
		}
	}
	var old, now string
	if was {
		old = string(strictjson.Canonical(nil, before))
	}
	if is {
		now = string(strictjson.Canonical(nil, after))
	}
	skip := 0
	if was && is {
		skip = alike(old, now)
	}
	d.found = append(d.found, Difference{path, from(old, skip), from(now, skip)})
}

func both[T any](a, b strictjson.Value) (x, y T, ok bool) {
	x, ok = a.(T)
	y, also := b.(T)
	return x, y, ok && also
}

func at(list []strictjson.Value, i int) strictjson.Value {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// alike returns how much of the beginning of two texts need not be shown.
func alike(a, b string) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	if i -= shownContext; i < shownContext {
		return 0
	}
	for i > 0 && !utf8.RuneStart(a[i]) {
		i--
	}
	return i
}

// from shows a text from some byte on.
func from(text string, skip int) string {
	shown := word.Show(text[skip:], shownValue)
	if skip > 0 {
		shown = "…" + shown
	}
	return strings.TrimSpace(shown)
}
