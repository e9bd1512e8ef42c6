// Package rule compiles JSON Schema and holds values to it. It is what package
// schema is made of.
package rule

import (
	"errors"
	"fmt"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/ecma"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// ErrInvalid is wrapped by every error about a schema.
var ErrInvalid = errors.New("invalid")

// What is accepted as a schema.
const (
	// MaxSize is the longest text, in bytes.
	MaxSize = 64 << 10
	// MaxDepth is how deep objects and arrays of a text may nest, and how many
	// schemas may apply to one value by way of each other.
	MaxDepth = 64
	// maxPattern is the longest regular expression, in bytes.
	maxPattern = 2048
	// maxSteps bounds the work of one check: schemas applied to values, and as
	// much again for long strings and lists. It takes some tens of milliseconds
	// at worst, and is more than any arguments take that a schema without
	// alternatives within alternatives is for.
	maxSteps = 1_000_000
)

// Parse reads a text that must hold one object.
func Parse(text []byte) (*strictjson.Object, error) {
	v, err := strictjson.Parse(text, strictjson.Limits{Depth: MaxDepth, Size: MaxSize})
	if err != nil {
		return nil, err
	}
	o, ok := v.(*strictjson.Object)
	if !ok {
		return nil, errors.New("want an object")
	}
	return o, nil
}

// A Schema is a schema of objects. It is immutable and safe for concurrent use.
type Schema struct {
	root *node
}

// Compile reads a schema that objects can satisfy. An error wraps ErrInvalid
// and names the place as a JSON pointer.
func Compile(text []byte) (*Schema, error) {
	o, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w schema: %w", ErrInvalid, err)
	}
	root, err := compile(o)
	if err != nil {
		return nil, err
	}
	if root.types != 0 && root.types&isObject == 0 {
		return nil, failAt("/type", "arguments are an object")
	}
	return &Schema{root: root}, nil
}

// Check reports whether an object satisfies the schema and has no members that
// it does not name. An error is an *ArgumentError.
func (s *Schema) Check(o *strictjson.Object) error {
	r := run{steps: maxSteps}
	if r.level(s.root, o, true) && !r.spent() {
		return nil
	}
	return s.explain(o)
}

// An ArgumentError says which argument does not satisfy a schema, and why. It
// never quotes a value of an argument: that may be secret.
type ArgumentError struct {
	// Place is such as arguments.to[2].
	Place string
	// Problem says what is wrong there, and what would be right.
	Problem string
}

// Error returns "arguments.to[2]: want a string".
func (e *ArgumentError) Error() string { return e.Place + ": " + e.Problem }

// kinds is a set of what values can be. A number that is an integer is one
// whatever schema it meets, so type number is both of the last two.
type kinds uint8

const (
	isNull kinds = 1 << iota
	isBoolean
	isString
	isArray
	isObject
	isInteger
	isFraction

	isNumber = isInteger | isFraction
	isAny    = isNull | isBoolean | isString | isArray | isObject | isNumber
)

// kindOf returns the set of the one kind that a value is of.
func kindOf(v strictjson.Value) kinds {
	switch v.(type) {
	case string:
		return isString
	case int64:
		return isInteger
	case bool:
		return isBoolean
	case float64:
		return isFraction
	case *strictjson.Object:
		return isObject
	case []strictjson.Value:
		return isArray
	default:
		return isNull
	}
}

// A node is one compiled schema. Its fields are written while it is compiled
// and only read afterwards. The zero node accepts everything.
type node struct {
	never bool // the schema false
	types kinds
	enum  []strictjson.Value // of const too; nil: not said
	num   *numberRules
	str   *stringRules
	arr   *arrayRules
	obj   *objectRules

	// What else applies to the same value.
	ref       *node
	all       []*node
	anyOf     []*node
	oneOf     []*node
	not       *node
	condition *node
	then      *node
	otherwise *node
	// apart is whether something else does.
	apart bool
}

type numberRules struct {
	// nil: not said.
	multipleOf, maximum, minimum, above, below strictjson.Value
}

type stringRules struct {
	shortest, longest int // in code points; longest < 0: not said
	pattern           *ecma.Pattern
}

type arrayRules struct {
	prefix          []*node
	items           *node // of those after the prefix; nil: not said
	fewest, most    int   // most < 0: not said
	unique          bool
	contains        *node
	fewestContained int
	mostContained   int // < 0: not said
	unevaluated     *node
}

type objectRules struct {
	// names is whether properties or patternProperties were there, even empty.
	names       bool
	properties  map[string]*node
	patterns    []patternRule
	additional  *node // nil: not said
	memberNames *node
	required    []string
	fewest      int
	most        int // < 0: not said
	needs       []need
	unevaluated *node
}

type patternRule struct {
	pattern *ecma.Pattern
	node    *node
}

// A need is what the presence of a member asks for.
type need struct {
	member   string
	required []string
	node     *node // nil: nothing
}

// beside calls f with every schema that applies to the same value as n, if it
// always or only sometimes does.
func (n *node) beside(f func(*node)) {
	one := func(m *node) {
		if m != nil {
			f(m)
		}
	}
	one(n.ref)
	for _, list := range [...][]*node{n.all, n.anyOf, n.oneOf} {
		for _, m := range list {
			f(m)
		}
	}
	one(n.not)
	one(n.condition)
	one(n.then)
	one(n.otherwise)
	if n.obj != nil {
		for i := range n.obj.needs {
			one(n.obj.needs[i].node)
		}
	}
}
