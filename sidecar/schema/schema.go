// Package schema reads what MCP servers say of their tools: it holds the
// arguments of calls to input schemas that were accepted, and compares
// definitions of tools. It is pure: no network, no files, no clock.
package schema

import (
	"errors"
	"fmt"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// ErrInvalid is wrapped by every error about a schema or a definition.
var ErrInvalid = errors.New("invalid")

// What is accepted as a schema or a definition.
const (
	// MaxSize is the longest text, in bytes.
	MaxSize = 64 << 10
	// MaxDepth is how deep objects and arrays of a text may nest.
	MaxDepth = 64
)

// A Schema is a tool's input schema, ready to be held against arguments. It is
// immutable and safe for concurrent use.
type Schema struct {
	root *node
}

// Compile reads the input schema of a tool: JSON Schema 2020-12, or an older
// draft from 6 on if $schema says so. What it cannot hold arguments to exactly
// it refuses: references to elsewhere, dynamic references, patterns that RE2
// does not have, and texts beyond MaxSize and MaxDepth. Formats are not
// checked, as the standard has it. An error wraps ErrInvalid and names the
// place as a JSON pointer.
func Compile(text string) (*Schema, error) {
	v, err := parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if v == nil {
		return nil, fmt.Errorf("%w: an input schema is an object", ErrInvalid)
	}
	return &Schema{root: &node{}}, nil
}

// Check reports whether a tool's arguments satisfy the schema; nil are none.
// Beyond what JSON Schema asks, it refuses members that the schema does not
// name: the arguments themselves are closed, and so is every object in them
// whose schema has properties or patternProperties, unless additionalProperties
// or unevaluatedProperties say otherwise. An error is an *ArgumentError.
func (s *Schema) Check(args *strictjson.Object) error {
	_ = args
	return &ArgumentError{Place: "arguments", Problem: "cannot be checked yet"}
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

type node struct{}

// parse reads a text that must hold one object.
func parse(text []byte) (*strictjson.Object, error) {
	v, err := strictjson.Parse(text, strictjson.Limits{Depth: MaxDepth, Size: MaxSize})
	if err != nil {
		return nil, err
	}
	o, _ := v.(*strictjson.Object)
	return o, nil
}
