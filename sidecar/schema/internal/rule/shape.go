package rule

import (
	"maps"
	"slices"
)

// A Kind is what a schema lets a value be.
type Kind uint8

// Kinds of values. Any is whatever else: several kinds, or not said.
const (
	Any Kind = iota
	Boolean
	Integer
	Number
	String
	Array
	Object
)

// maxWays is how many ways to satisfy a schema a shape looks at. Of what has
// more it says nothing.
const maxWays = 64

// maxExplored is how many schemas are looked at for one shape.
const maxExplored = 512

// A Shape is what can be said of every value that satisfies a schema, for
// conditions that read such values. The zero Shape says nothing. It is
// immutable.
type Shape struct {
	// ways are the ways in which a value can satisfy the schema: in each, the
	// schemas that all apply to it.
	ways      [][]*node
	outermost bool
}

// Arguments returns the shape of what satisfies the schema; that of nil says
// nothing.
func (s *Schema) Arguments() Shape {
	if s == nil {
		return Shape{}
	}
	return shapeOf([]*node{s.root}, true)
}

// shapeOf returns the shape of what satisfies all of some nodes.
func shapeOf(all []*node, outermost bool) Shape {
	e := explorer{left: maxExplored}
	ways := [][]*node{nil}
	for _, n := range all {
		ways = cross(ways, e.ways(n))
	}
	return Shape{possible(ways), outermost}
}

// possible leaves out ways in which no value satisfies the schema; it returns
// nil, which says nothing, if there are too many.
func possible(ways [][]*node) [][]*node {
	if len(ways) > maxWays {
		return nil
	}
	return slices.DeleteFunc(ways, func(way []*node) bool { return kindsOf(way) == 0 })
}

// An explorer lists ways to satisfy schemas. left is how many more schemas it
// looks at.
type explorer struct{ left int }

// ways returns the ways in which a value can satisfy n; more than maxWays if
// they are too many to tell.
func (e *explorer) ways(n *node) [][]*node {
	if e.left--; e.left < 0 {
		return make([][]*node, maxWays+1)
	}
	ways := [][]*node{{n}}
	if n.ref != nil {
		ways = cross(ways, e.ways(n.ref))
	}
	for _, m := range n.all {
		ways = cross(ways, e.ways(m))
	}
	for _, list := range [...][]*node{n.anyOf, n.oneOf} {
		if list != nil {
			ways = cross(ways, e.either(list))
		}
	}
	for _, m := range [...]*node{n.condition, n.then, n.otherwise} {
		if m != nil {
			ways = cross(ways, append(e.ways(m), nil))
		}
	}
	if n.obj != nil {
		for i := range n.obj.needs {
			if m := n.obj.needs[i].node; m != nil {
				ways = cross(ways, append(e.ways(m), nil))
			}
		}
	}
	return ways
}

func (e *explorer) either(list []*node) (ways [][]*node) {
	for _, m := range list {
		if ways = append(ways, e.ways(m)...); len(ways) > maxWays {
			break
		}
	}
	return ways
}

// cross combines each way with each other one. Once there are too many, they
// stay too many.
func cross(a, b [][]*node) (ways [][]*node) {
	if len(a) > maxWays {
		return a
	}
	if len(b) > maxWays || len(a)*len(b) > maxWays {
		return make([][]*node, maxWays+1)
	}
	for _, x := range a {
		for _, y := range b {
			ways = append(ways, slices.Concat(x, y))
		}
	}
	return ways
}

// kindsOf returns what a value can be that satisfies all of some nodes.
func kindsOf(way []*node) kinds {
	k := isAny
	for _, n := range way {
		if n.never {
			return 0
		}
		if n.types != 0 {
			k &= n.types
		}
		if n.enum != nil {
			listed := kinds(0)
			for _, v := range n.enum {
				listed |= kindOf(v)
			}
			k &= listed
		}
	}
	return k
}

// Kind returns what the values are, apart from null, and whether they can be
// null too.
func (s Shape) Kind() (kind Kind, nullable bool) {
	var k kinds
	for _, way := range s.ways {
		k |= kindsOf(way)
	}
	nullable = k&isNull != 0
	switch k &^ isNull {
	case isBoolean:
		return Boolean, nullable
	case isInteger:
		return Integer, nullable
	case isFraction, isNumber:
		return Number, nullable
	case isString:
		return String, nullable
	case isArray:
		return Array, nullable
	case isObject:
		return Object, nullable
	default:
		return Any, false
	}
}

// Member returns the shape of the member called name of what is an object, and
// whether there can be one.
func (s Shape) Member(name string) (Shape, bool) {
	if len(s.ways) == 0 {
		return Shape{}, true
	}
	var ways [][]*node
	for _, way := range s.ways {
		if kindsOf(way)&isObject == 0 {
			continue
		}
		nodes, open := memberOf(way, name)
		if nodes == nil && (open || !s.outermost && !closes(way)) {
			return Shape{}, true
		}
		if nodes == nil {
			continue
		}
		member := shapeOf(nodes, false)
		if ways = append(ways, member.ways...); member.ways == nil || len(ways) > maxWays {
			return Shape{}, true
		}
	}
	return Shape{ways: ways}, ways != nil
}

// memberOf returns the nodes that a member called name has to satisfy, and
// whether anything else may be said of it.
func memberOf(way []*node, name string) (nodes []*node, open bool) {
	for _, n := range way {
		if n.obj == nil {
			continue
		}
		named := false
		if m, ok := n.obj.properties[name]; ok {
			nodes, named = append(nodes, m), true
		}
		for _, p := range n.obj.patterns {
			if p.pattern.MatchString(name) {
				nodes, named = append(nodes, p.node), true
			}
		}
		if !named && n.obj.additional != nil {
			nodes, named = append(nodes, n.obj.additional), true
		}
		open = open || !named && opens(n.obj.unevaluated)
	}
	return nodes, open
}

// closes reports whether objects have no members but those that are named.
func closes(way []*node) bool {
	return slices.ContainsFunc(way, func(n *node) bool { return n.obj != nil && n.obj.names })
}

// Names returns the members that the schema names, in order.
func (s Shape) Names() []string {
	names := make(map[string]bool)
	for _, way := range s.ways {
		for _, n := range way {
			if n.obj == nil {
				continue
			}
			for name := range n.obj.properties {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Element returns the shape of the elements of what is an array.
func (s Shape) Element() Shape {
	var ways [][]*node
	for _, way := range s.ways {
		if kindsOf(way)&isArray == 0 {
			continue
		}
		var all []*node
		for _, n := range way {
			switch {
			case n.arr == nil:
			case len(n.arr.prefix) > 0:
				return Shape{}
			case n.arr.items != nil:
				all = append(all, n.arr.items)
			}
		}
		if all == nil {
			return Shape{}
		}
		element := shapeOf(all, false)
		if ways = append(ways, element.ways...); element.ways == nil || len(ways) > maxWays {
			return Shape{}
		}
	}
	return Shape{ways: ways}
}
