package schema

import "iter"

// A Kind is what a schema lets a value be.
type Kind uint8

// Kinds of values. Any is whatever else: several kinds, or not said.
const (
	Any Kind = iota
	Null
	Boolean
	Integer
	Number
	String
	Array
	Object
)

// A Shape is what can be said of every value that satisfies a schema, for
// conditions that read such values. The zero Shape says nothing.
type Shape struct{ n *node }

// Arguments returns the shape of the arguments; nil has the zero Shape.
func (s *Schema) Arguments() Shape { return Shape{} }

// Kind returns the kind of the values.
func (s Shape) Kind() Kind { return Any }

// Element returns the shape of the elements of arrays.
func (s Shape) Element() Shape { return Shape{} }

// Member returns the shape of a member of objects, and whether there can be
// one of that name.
func (s Shape) Member(name string) (Shape, bool) { return Shape{}, true }

// Names returns the members that the schema names, in order.
func (s Shape) Names() iter.Seq[string] { return func(func(string) bool) {} }
