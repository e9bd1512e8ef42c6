package typing

import (
	"strconv"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
)

// call infers a call of a function or an operator.
func (c *checker) call(e ast.Expr) kind {
	call := e.AsCall()
	name := call.FunctionName()
	if call.IsMemberFunction() {
		return c.method(e, name, c.infer(call.Target()), c.inferAll(call.Args()))
	}
	switch args := call.Args(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		return c.logical(args, name == operators.LogicalOr)
	case operators.Conditional:
		return c.conditional(e, args)
	case operators.Index:
		return c.index(e, args)
	case operators.In:
		return c.in(e, args)
	}
	args := c.inferAll(call.Args())
	switch name {
	case operators.LogicalNot:
		c.boolean(call.Args()[0], args[0])
	case operators.Equals, operators.NotEquals:
		if !equatable(args[0], args[1]) {
			c.fail(e, "%s, is never equal to %s", args[0].subject(), args[1].subject())
		}
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if !ordered(args[0], args[1]) {
			c.fail(e, "%s, cannot be compared with %s", args[0].subject(), args[1].subject())
		}
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		return c.arithmetic(e, name, args[0], args[1])
	case operators.Negate:
		if !args[0].in(integer, double) {
			c.fail(e, "%s, has no negative; write -double(…)", args[0].subject())
		}
		return args[0].named("")
	default:
		return c.function(e, name, args)
	}
	return kind{class: boolean}
}

func (c *checker) inferAll(list []ast.Expr) []kind {
	kinds := make([]kind, len(list))
	for i, e := range list {
		kinds[i] = c.infer(e)
	}
	return kinds
}

// boolean notes that an operand is neither true nor false.
func (c *checker) boolean(e ast.Expr, k kind) {
	if !k.in(boolean) {
		c.fail(e, "%s, is not true or false", k.subject())
	}
}

// logical infers a && b, which false settles, or a || b, which true does. What
// the other side then is does not matter, in either order.
func (c *checker) logical(args []ast.Expr, settles bool) kind {
	for i, a := range args {
		if is, ok := c.truth(a); ok && is == settles {
			c.infer(a)
			c.skip(args[1-i])
			return kind{class: boolean}
		}
	}
	for _, a := range args {
		c.boolean(a, c.infer(a))
	}
	return kind{class: boolean}
}

func (c *checker) conditional(e ast.Expr, args []ast.Expr) kind {
	c.boolean(args[0], c.infer(args[0]))
	switch is, ok := c.truth(args[0]); {
	case ok && is:
		c.skip(args[2])
		return c.infer(args[1])
	case ok:
		c.skip(args[1])
		return c.infer(args[2])
	}
	a, b := c.infer(args[1]), c.infer(args[2])
	k := merged(a, b)
	if k.class == anything && a.class != anything && b.class != anything {
		c.fail(e, "it is either %s, or %s; both sides must be alike", a.subject(), b.subject())
	}
	return k
}

// index infers a[b].
func (c *checker) index(e ast.Expr, args []ast.Expr) kind {
	of, by := c.infer(args[0]), c.infer(args[1])
	name, isLiteral := literal(args[1])
	switch {
	case !of.in(list, object):
		c.fail(e, "%s, has no elements", of.subject())
	case of.class == object && isLiteral:
		return c.member(e, of, name, "["+strconv.Quote(name)+"]", false)
	case of.class == object && !by.in(text), of.class == list && !by.in(integer, unsigned, double, number):
		c.fail(e, "%s, has no element at %s", of.subject(), by.subject())
	case of.class == list && of.element != nil:
		return of.element.named(of.name + "[…]")
	}
	return kind{}
}

// in infers a in b. Of an object it asks for a member, as has() does.
func (c *checker) in(e ast.Expr, args []ast.Expr) kind {
	k, of := c.infer(args[0]), c.infer(args[1])
	name, isLiteral := literal(args[0])
	switch {
	case !of.in(list, object):
		c.fail(e, "%s, has no elements", of.subject())
	case of.class == object && isLiteral:
		c.member(e, of, name, "["+strconv.Quote(name)+"]", true)
	case of.class == object && !k.in(text),
		of.class == list && of.element != nil && !equatable(k, *of.element):
		element := kind{class: text}
		if of.element != nil {
			element = *of.element
		}
		c.fail(e, "%s, is never in %s of which each is %s", k.subject(), of.subject(), element)
	}
	return kind{class: boolean}
}

// arithmetic infers an operator that CEL has for two operands of one type.
func (c *checker) arithmetic(e ast.Expr, name string, a, b kind) kind {
	switch {
	case a.class == anything || b.class == anything:
		return kind{}
	case a.class == instant || b.class == instant || a.class == duration || b.class == duration:
		return c.declared(e)
	case a.numeric() && b.numeric() && (a.class == number || b.class == number || a.class != b.class):
		c.fail(e, "%s, cannot be reckoned with %s; write double(…) around what is not a double", a.subject(), b.subject())
		return kind{class: number}
	case a.class != b.class, !a.numeric() && (name != operators.Add || !a.in(text, binary, list)):
		c.fail(e, "%s, cannot be reckoned with %s", a.subject(), b.subject())
		return kind{}
	case a.class == list:
		return merged(a, b)
	default:
		return kind{class: a.class}
	}
}

// method infers a.name(args).
func (c *checker) method(e ast.Expr, name string, of kind, args []kind) kind {
	var takes []class
	switch name {
	case overloads.StartsWith, overloads.EndsWith, overloads.Contains, overloads.Matches:
		takes = []class{text}
	case overloads.Size:
		takes = []class{text, binary, list, object}
	case overloads.TimeGetFullYear, overloads.TimeGetMonth, overloads.TimeGetDate, overloads.TimeGetDayOfMonth,
		overloads.TimeGetDayOfWeek, overloads.TimeGetDayOfYear:
		takes = []class{instant}
	case overloads.TimeGetHours, overloads.TimeGetMinutes, overloads.TimeGetSeconds, overloads.TimeGetMilliseconds:
		takes = []class{instant, duration}
	default:
		return c.declared(e)
	}
	if !of.in(takes...) {
		c.fail(e, "%s, does not have %s()", of.subject(), name)
	}
	for _, a := range args {
		if !a.in(text) {
			c.fail(e, "%s() takes a string, not %s", name, a.subject())
		}
	}
	return c.declared(e)
}

// conversions are the functions of one argument, and what they take.
var conversions = map[string][]class{
	overloads.Size:                 {text, binary, list, object},
	overloads.TypeConvertInt:       {integer, unsigned, double, number, text, instant, duration},
	overloads.TypeConvertUint:      {integer, unsigned, double, number, text},
	overloads.TypeConvertDouble:    {integer, unsigned, double, number, text},
	overloads.TypeConvertString:    {boolean, integer, unsigned, double, number, text, binary, instant, duration},
	overloads.TypeConvertBytes:     {text, binary},
	overloads.TypeConvertBool:      {boolean, text},
	overloads.TypeConvertTimestamp: {text, integer, instant},
	overloads.TypeConvertDuration:  {text, integer, duration},
}

// function infers name(args).
func (c *checker) function(e ast.Expr, name string, args []kind) kind {
	if takes, ok := conversions[name]; ok && len(args) == 1 && !args[0].in(takes...) {
		c.fail(e, "%s() does not take %s", name, args[0].subject())
	}
	if name == overloads.Matches {
		for _, a := range args {
			if !a.in(text) {
				c.fail(e, "%s() takes strings, not %s", name, a.subject())
			}
		}
	}
	return c.declared(e)
}
