package condition

import (
	"cmp"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// A predicate is a short cut past CEL: it answers the plain cases of a template
// without boxing a value, and only when it is sure. Whatever else there is (a
// missing key, an unexpected type, an error) it leaves to CEL, which alone says
// what a condition means.
type predicate func(in *Input, c *Condition) verdict

type verdict int8

const (
	unsure verdict = iota
	yes
	no
)

func verdictOf(b bool) verdict {
	if b {
		return yes
	}
	return no
}

// predicateOf returns the short cut for an expression; nil if there is none.
func predicateOf(e ast.Expr) predicate {
	switch e.Kind() {
	case ast.CallKind:
		return callOf(e.AsCall())
	case ast.SelectKind:
		if s := e.AsSelect(); s.IsTestOnly() {
			return presence(s)
		}
	default:
	}
	return nil
}

func callOf(call ast.CallExpr) predicate {
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd:
		return junction(args, no)
	case operators.LogicalOr:
		return junction(args, yes)
	case operators.LogicalNot:
		return negation(predicateOf(args[0]))
	case operators.In:
		return membership(operandOf(args[0]), args[1])
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals,
		operators.Greater, operators.GreaterEquals:
		return comparison(orders[name], operandOf(args[0]), operandOf(args[1]))
	default:
		if test := texts[name]; test != nil && call.IsMemberFunction() {
			return textual(test, operandOf(call.Target()), operandOf(args[0]))
		}
		return nil
	}
}

// junction is && or ||: one term that settles it is enough, whatever the others
// are; that is so in CEL too.
func junction(args []ast.Expr, settles verdict) predicate {
	terms := make([]predicate, len(args))
	known := false
	for i, a := range args {
		if terms[i] = predicateOf(a); terms[i] == nil {
			terms[i] = func(*Input, *Condition) verdict { return unsure }
			continue
		}
		known = true
	}
	if !known {
		return nil
	}
	return func(in *Input, c *Condition) verdict {
		result := verdictOf(settles == no)
		for _, term := range terms {
			switch term(in, c) {
			case settles:
				return settles
			case unsure:
				result = unsure
			default:
			}
		}
		return result
	}
}

func negation(p predicate) predicate {
	if p == nil {
		return nil
	}
	return func(in *Input, c *Condition) verdict {
		switch p(in, c) {
		case yes:
			return no
		case no:
			return yes
		default:
			return unsure
		}
	}
}

// presence is has(args.a.b).
func presence(s ast.SelectExpr) predicate {
	path, ok := argsPath(s.Operand())
	if !ok {
		return nil
	}
	field := s.FieldName()
	return func(in *Input, _ *Condition) verdict {
		o, ok := descend(in.Args, path)
		if !ok {
			return unsure
		}
		_, found := o.Get(field)
		return verdictOf(found)
	}
}

// orders says for each comparison whether it holds of less, equal and greater.
var orders = map[string][3]bool{
	operators.Less:          {true, false, false},
	operators.LessEquals:    {true, true, false},
	operators.Equals:        {false, true, false},
	operators.NotEquals:     {true, false, true},
	operators.GreaterEquals: {false, true, true},
	operators.Greater:       {false, false, true},
}

// comparison compares two texts or two integers.
func comparison(holds [3]bool, left, right operand) predicate {
	if left == nil || right == nil {
		return nil
	}
	return func(in *Input, c *Condition) verdict {
		a, b := left(in, c), right(in, c)
		switch {
		case a.kind == text && b.kind == text:
			return verdictOf(holds[strings.Compare(a.text, b.text)+1])
		case a.kind == number && b.kind == number:
			return verdictOf(holds[cmp.Compare(a.number, b.number)+1])
		default:
			return unsure
		}
	}
}

var texts = map[string]func(s, part string) bool{
	overloads.StartsWith: strings.HasPrefix,
	overloads.EndsWith:   strings.HasSuffix,
	overloads.Contains:   strings.Contains,
}

func textual(holds func(s, part string) bool, left, right operand) predicate {
	if left == nil || right == nil {
		return nil
	}
	return func(in *Input, c *Condition) verdict {
		a, b := left(in, c), right(in, c)
		if a.kind != text || b.kind != text {
			return unsure
		}
		return verdictOf(holds(a.text, b.text))
	}
}

// membership is x in [constants].
func membership(element operand, list ast.Expr) predicate {
	if element == nil || list.Kind() != ast.IdentKind || slot(list.AsIdent()) < 0 {
		return nil
	}
	n := slot(list.AsIdent())
	return func(in *Input, c *Condition) verdict {
		x := element(in, c)
		switch l := c.constants[n].value.(type) {
		case *set[string]:
			if x.kind == text {
				return verdictOf(l.has(x.text))
			}
		case *set[int64]:
			if x.kind == number {
				return verdictOf(l.has(x.number))
			}
		}
		return unsure
	}
}

// An operand finds a value; of kind other if it is not plain.
type operand func(in *Input, c *Condition) plain

// operandOf returns what finds the value of an expression; nil if that takes
// more than looking.
func operandOf(e ast.Expr) operand {
	switch e.Kind() {
	case ast.IdentKind:
		return variableOf(e.AsIdent())
	case ast.SelectKind:
		s := e.AsSelect()
		path, ok := argsPath(s.Operand())
		if !ok || s.IsTestOnly() {
			return nil
		}
		field := s.FieldName()
		if len(path) == 0 {
			return func(in *Input, _ *Condition) plain { return member(in.Args, field) }
		}
		return func(in *Input, _ *Condition) plain {
			o, ok := descend(in.Args, path)
			if !ok {
				return plain{}
			}
			return member(o, field)
		}
	default:
		return nil
	}
}

func variableOf(name string) operand {
	if n := slot(name); n >= 0 {
		return func(_ *Input, c *Condition) plain { return c.plain(n) }
	}
	switch name {
	case agentID, agentName, agentNamespace, toolServer, toolName, toolEffect, toolReach:
		return func(in *Input, _ *Condition) plain {
			v, _ := in.resolve(name)
			return plainOf(v)
		}
	default:
		return nil
	}
}

// argsPath returns the names on the way from args to e; ok is false if e is
// elsewhere.
func argsPath(e ast.Expr) (path []string, ok bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return nil, e.AsIdent() == argsName
	case ast.SelectKind:
		s := e.AsSelect()
		path, ok = argsPath(s.Operand())
		return append(path, s.FieldName()), ok && !s.IsTestOnly()
	default:
		return nil, false
	}
}

func descend(o *strictjson.Object, path []string) (*strictjson.Object, bool) {
	for _, name := range path {
		var ok bool
		if o, ok = o.Object(name); !ok {
			return nil, false
		}
	}
	return o, true
}

func member(o *strictjson.Object, name string) plain {
	v, _ := o.Get(name)
	switch v := v.(type) {
	case string:
		return plain{kind: text, text: v}
	case int64:
		return plain{kind: number, number: v}
	default:
		return plain{}
	}
}
