package typing

import (
	"maps"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/reeve-authz/reeve/sidecar/schema"
)

// infer returns what is known of an expression, and notes what is wrong in the
// parts of it that are evaluated for the tool.
func (c *checker) infer(e ast.Expr) kind {
	switch e.Kind() {
	default:
	case ast.IdentKind:
		if k, ok := c.scope[e.AsIdent()]; ok {
			return k
		}
	case ast.SelectKind:
		return c.selected(e)
	case ast.CallKind:
		return c.call(e)
	case ast.ListKind:
		return c.elements(e)
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			c.infer(entry.AsMapEntry().Key())
			c.infer(entry.AsMapEntry().Value())
		}
	case ast.ComprehensionKind:
		return c.loop(e)
	}
	return c.declared(e)
}

// declared returns what CEL says of an expression.
func (c *checker) declared(e ast.Expr) kind { return ofType(c.tree.GetType(e.ID())) }

// selected infers x.name and has(x.name).
func (c *checker) selected(e ast.Expr) kind {
	s := e.AsSelect()
	of := c.infer(s.Operand())
	k := c.member(e, of, s.FieldName(), "."+s.FieldName(), s.IsTestOnly())
	if s.IsTestOnly() {
		return kind{class: boolean}
	}
	return k
}

// member infers the member called name of what of is, which is only asked for
// if tested. step is how the condition wrote it.
func (c *checker) member(e ast.Expr, of kind, name, step string, tested bool) kind {
	if !of.in(object) {
		c.fail(e, "%s, has no members", of.subject())
		return kind{}
	}
	if of.name == "" {
		return c.declared(e)
	}
	s, ok := of.shape.Member(name)
	if ok {
		// Of what is not there, nothing is known, which is not to have it.
		c.anyone[e.ID()] = c.anyone[e.ID()] || !c.dead || of.class != anything
		return ofShape(s, of.name+step)
	}
	p := problem{at: e.ID(), absent: of.name + step, tested: tested}
	if near, ok := schema.Near(name, slices.Values(of.shape.Names())); ok {
		p.near = of.name + "." + near
	}
	c.note(p)
	return kind{}
}

// elements infers a list.
func (c *checker) elements(e ast.Expr) kind {
	k := kind{class: list}
	for i, element := range e.AsList().Elements() {
		found := c.infer(element).named("")
		if i > 0 && k.element == nil {
			continue
		}
		if i > 0 {
			found = merged(*k.element, found)
		}
		if k.element = &found; found.class == anything {
			k.element = nil
		}
	}
	return k
}

// loop infers what all, exists, exists_one, filter and map are made of.
func (c *checker) loop(e ast.Expr) kind {
	l := e.AsComprehension()
	over := c.infer(l.IterRange())
	if !over.in(list, object) {
		c.fail(l.IterRange(), "%s, cannot be looped over", over.subject())
	}
	outside := c.scope
	defer func() { c.scope = outside }()
	c.scope = maps.Clone(outside)
	element := kind{}
	switch {
	case over.class == list && over.element != nil:
		element = *over.element
	case over.class == object:
		element = kind{class: text}
	}
	c.scope[l.IterVar()] = element.named(l.IterVar())
	c.scope[l.AccuVar()] = c.infer(l.AccuInit())
	c.infer(l.LoopCondition())
	step := c.infer(l.LoopStep())
	if step.class == list {
		c.scope[l.AccuVar()] = step
	}
	return c.infer(l.Result())
}

// truth returns whether an expression is true or false for the tool whatever
// its arguments are, since it asks for what the tool does not have; ok is
// whether it is.
func (c *checker) truth(e ast.Expr) (is, ok bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		b, isBool := e.AsLiteral().(types.Bool)
		return bool(b), isBool
	case ast.SelectKind:
		s := e.AsSelect()
		return false, s.IsTestOnly() && c.lacks(s.Operand(), s.FieldName())
	case ast.CallKind:
	default:
		return false, false
	}
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case operators.LogicalNot:
		is, ok = c.truth(args[0])
		return !is, ok
	case operators.LogicalAnd, operators.LogicalOr:
		settles := call.FunctionName() == operators.LogicalOr
		a, aOK := c.truth(args[0])
		b, bOK := c.truth(args[1])
		if aOK && a == settles || bOK && b == settles {
			return settles, true
		}
		return !settles, aOK && bOK
	case operators.Conditional:
		if is, ok = c.truth(args[0]); ok && is {
			return c.truth(args[1])
		} else if ok {
			return c.truth(args[2])
		}
	case operators.In:
		name, isLiteral := literal(args[0])
		return false, isLiteral && c.lacks(args[1], name)
	}
	return false, false
}

// lacks reports whether what an expression says cannot have a member.
func (c *checker) lacks(e ast.Expr, name string) bool {
	s, ok := c.shapeOf(e)
	if !ok {
		return false
	}
	_, has := s.Member(name)
	return !has
}

// shapeOf returns the shape of an argument, or of a part of one, without
// looking for problems; false if e is something else, or is not there.
func (c *checker) shapeOf(e ast.Expr) (schema.Shape, bool) {
	step := func(of ast.Expr, name string) (schema.Shape, bool) {
		s, ok := c.shapeOf(of)
		if !ok {
			return s, false
		}
		return s.Member(name)
	}
	switch e.Kind() {
	default:
	case ast.IdentKind:
		k, ok := c.scope[e.AsIdent()]
		return k.shape, ok
	case ast.SelectKind:
		return step(e.AsSelect().Operand(), e.AsSelect().FieldName())
	case ast.CallKind:
		if call := e.AsCall(); call.FunctionName() == operators.Index {
			if name, ok := literal(call.Args()[1]); ok {
				return step(call.Args()[0], name)
			}
			s, ok := c.shapeOf(call.Args()[0])
			return s.Element(), ok
		}
	}
	return schema.Shape{}, false
}

// literal returns the string that an expression is, if it is a literal.
func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}
