package typing

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/reeve-authz/reeve/sidecar/schema"
)

// A class is a type without its parameters.
type class uint8

const (
	anything class = iota // not known
	null
	boolean
	integer
	unsigned
	double
	number // an integer or a double, by value
	text
	binary
	instant
	duration
	list
	object
	other // a type that has no operations with those of arguments
)

var words = [...]string{
	"anything", "null", "a boolean", "an integer", "an unsigned integer", "a double", "a number", "a string", "bytes",
	"a timestamp", "a duration", "an array", "an object", "something else",
}

// A kind is what is known of the values of an expression. The zero kind is
// nothing.
type kind struct {
	class    class
	nullable bool
	// element is of lists; nil if nothing is known, or there are none.
	element *kind
	// shape is of what came from arguments.
	shape schema.Shape
	// name is how the condition wrote it, if it is an argument or part of one.
	name string
}

// String returns "an array of strings" or the like.
func (k kind) String() string {
	s := words[k.class]
	if k.nullable {
		s += " or null"
	}
	return s
}

// subject returns "args.n is an integer", or less if it has no name.
func (k kind) subject() string {
	if k.name != "" {
		return k.name + ", " + k.String()
	}
	return k.String()
}

func (k kind) numeric() bool { return k.class >= integer && k.class <= number }

// in reports whether k is of one of the classes, or may be.
func (k kind) in(classes ...class) bool {
	if k.class == anything {
		return true
	}
	for _, c := range classes {
		if k.class == c {
			return true
		}
	}
	return false
}

// named returns k under another name.
func (k kind) named(name string) kind {
	k.name = name
	return k
}

// ofShape returns the kind of what has a shape.
func ofShape(s schema.Shape, name string) kind {
	k := kind{shape: s, name: name}
	var of schema.Kind
	of, k.nullable = s.Kind()
	switch of {
	case schema.Boolean:
		k.class = boolean
	case schema.Integer:
		k.class = integer
	case schema.Number:
		k.class = number
	case schema.String:
		k.class = text
	case schema.Array:
		k.class = list
		if _, nullable := s.Element().Kind(); true {
			e := ofShape(s.Element(), "")
			e.nullable = nullable
			k.element = &e
		}
	case schema.Object:
		k.class = object
	default:
		k.class = anything
	}
	return k
}

// ofType returns the kind of what has a CEL type.
func ofType(t *cel.Type) kind {
	if t == nil {
		return kind{}
	}
	switch t.Kind() {
	case types.NullTypeKind:
		return kind{class: null}
	case types.BoolKind:
		return kind{class: boolean}
	case types.IntKind:
		return kind{class: integer}
	case types.UintKind:
		return kind{class: unsigned}
	case types.DoubleKind:
		return kind{class: double}
	case types.StringKind:
		return kind{class: text}
	case types.BytesKind:
		return kind{class: binary}
	case types.TimestampKind:
		return kind{class: instant}
	case types.DurationKind:
		return kind{class: duration}
	case types.MapKind:
		return kind{class: object}
	case types.TypeKind:
		return kind{class: other}
	case types.ListKind:
		k := kind{class: list}
		if e := ofType(t.Parameters()[0]); e.class != anything {
			k.element = &e
		}
		return k
	default:
		return kind{}
	}
}

// equatable reports whether a value of a can be equal to one of b.
func equatable(a, b kind) bool {
	switch {
	case a.class == anything || b.class == anything, a.numeric() && b.numeric(), a.nullable && b.nullable:
		return true
	case a.class == null || b.class == null:
		return a.class == b.class || a.nullable || b.nullable
	case a.class == list && b.class == list:
		return a.element == nil || b.element == nil || equatable(*a.element, *b.element)
	default:
		return a.class == b.class
	}
}

// ordered reports whether a value of a can be less than one of b.
func ordered(a, b kind) bool {
	if a.class == anything || b.class == anything || a.numeric() && b.numeric() {
		return true
	}
	return a.class == b.class && a.in(boolean, text, binary, instant, duration)
}

// merged returns the kind of what is either a or b.
func merged(a, b kind) kind {
	switch {
	case a.class == null:
		a, b = b, a
		fallthrough
	case b.class == null:
		a.nullable, a.shape, a.name = true, schema.Shape{}, ""
		return a
	case a.numeric() && b.numeric() && a.class != b.class:
		return kind{class: number, nullable: a.nullable || b.nullable}
	case a.class != b.class:
		return kind{}
	}
	k := kind{class: a.class, nullable: a.nullable || b.nullable}
	switch {
	case a.element == nil:
		k.element = b.element
	case b.element == nil:
		k.element = a.element
	default:
		if e := merged(*a.element, *b.element); e.class != anything {
			k.element = &e
		}
	}
	return k
}
