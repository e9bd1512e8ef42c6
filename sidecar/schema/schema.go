// Package schema reads what MCP servers say of their tools: it holds the
// arguments of calls to input schemas that were accepted, and compares
// definitions of tools. It is pure: no network, no files, no clock.
package schema

import (
	"github.com/reeve-authz/reeve/sidecar/schema/internal/rule"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// ErrInvalid is wrapped by every error about a schema or a definition.
var ErrInvalid = rule.ErrInvalid

// What is accepted as a schema or a definition.
const (
	// MaxSize is the longest text, in bytes.
	MaxSize = rule.MaxSize
	// MaxDepth is how deep objects and arrays of a text may nest, and how many
	// schemas may apply to one value by way of each other.
	MaxDepth = rule.MaxDepth
)

// A Schema is a tool's input schema, ready to be held against arguments. It is
// immutable and safe for concurrent use.
type Schema struct {
	rules *rule.Schema
}

// Compile reads the input schema of a tool: JSON Schema 2020-12, or an older
// draft from 6 on if $schema says so. What it cannot hold arguments to exactly
// it refuses: references to elsewhere, dynamic references, patterns that RE2
// does not have or that engines read differently, and texts beyond MaxSize and
// MaxDepth. Formats are not checked, as the standard has it. An error wraps
// ErrInvalid and names the place as a JSON pointer.
func Compile(text string) (*Schema, error) {
	rules, err := rule.Compile([]byte(text))
	if err != nil {
		return nil, err
	}
	return &Schema{rules}, nil
}

// Check reports whether a tool's arguments satisfy the schema; nil are none.
// Beyond what JSON Schema asks, it refuses members that the schema does not
// name: the arguments themselves are closed, and so is every object in them
// whose schema has properties or patternProperties, unless additionalProperties
// or unevaluatedProperties say otherwise. Where a schema has alternatives, it
// is those that the value satisfies that name its members. An error is an
// *ArgumentError. Check does bounded work, whatever the arguments.
func (s *Schema) Check(args *strictjson.Object) error { return s.rules.Check(args) }

// An ArgumentError says which argument does not satisfy a schema, and why. It
// never quotes a value of an argument: that may be secret.
type ArgumentError = rule.ArgumentError

// Arguments returns the shape of the arguments; that of nil says nothing.
func (s *Schema) Arguments() Shape {
	if s == nil {
		return Shape{}
	}
	return s.rules.Arguments()
}

// A Shape is what can be said of every value that satisfies a schema, for
// conditions that read such values. The zero Shape says nothing. It is
// immutable.
type Shape = rule.Shape

// A Kind is what a schema lets a value be.
type Kind = rule.Kind

// Kinds of values. Any is whatever else: several kinds, or not said.
const (
	Any     = rule.Any
	Boolean = rule.Boolean
	Integer = rule.Integer
	Number  = rule.Number
	String  = rule.String
	Array   = rule.Array
	Object  = rule.Object
)
