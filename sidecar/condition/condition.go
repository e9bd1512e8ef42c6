// Package condition compiles and evaluates the CEL conditions of grants. It
// compiles templates: literals are lifted out of the text, so that conditions
// that differ only in their constants share one program.
package condition

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// ErrInvalid is wrapped by every error of Compile.
var ErrInvalid = errors.New("invalid condition")

// A Condition is one compiled condition: a shared program and its own
// constants. It is immutable and safe for concurrent use.
type Condition struct {
	template *template
	// Constants in the order of the text: few of them lie beside the rest, where
	// they are found without another look-up in memory.
	few  [2]constant
	many []constant
}

// A constant is the value of a literal, both in CEL's box and plain.
type constant struct {
	plain
	value ref.Val
}

func newCondition(t *template, constants []constant) *Condition {
	c := &Condition{template: t}
	if copy(c.few[:], constants) < len(constants) {
		c.many = constants
	}
	return c
}

// constant returns the n-th constant.
func (c *Condition) constant(n int) *constant {
	if c.many != nil {
		return &c.many[n]
	}
	return &c.few[n]
}

// A template is what conditions that differ only in their constants share.
type template struct {
	// shortCut is nil if only CEL can tell.
	shortCut predicate
	program  cel.Program
}

// Holds reports whether the condition is true of in. An error means that it
// could not be evaluated; what that means is for the caller to say.
func (c *Condition) Holds(in *Input) (bool, error) {
	if c.template.shortCut != nil {
		if v := c.template.shortCut(in, c); v != unsure {
			return v == yes, nil
		}
	}
	return c.evaluate(in)
}

// evaluate lets CEL tell.
func (c *Condition) evaluate(in *Input) (bool, error) {
	in.condition = c
	v, _, err := c.template.program.Eval(in.activation())
	if err != nil {
		return false, err
	}
	holds, ok := v.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the condition is a %s, not true or false", v.Type().TypeName())
	}
	return bool(holds), nil
}
