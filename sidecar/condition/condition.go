// Package condition compiles and evaluates the CEL conditions of grants. It
// compiles templates: literals are lifted out of the text, so that conditions
// that differ only in their constants share one program.
package condition

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// ErrInvalid is wrapped by every error of Compile.
var ErrInvalid = errors.New("invalid")

// A Condition is one compiled condition: a shared program and its own
// constants. It is immutable, safe for concurrent use and may be copied. The
// zero Condition cannot be evaluated.
type Condition struct {
	template *template
	// first is the first constant, which is most often the only one, where it is
	// found without another look-up in memory.
	first plain
	// constants are those of the text, in its order.
	constants []constant
}

// A constant is the value of a literal, both in CEL's box and plain.
type constant struct {
	plain
	value ref.Val
}

func newCondition(t *template, constants []constant) Condition {
	c := Condition{template: t, constants: constants}
	if len(constants) > 0 {
		c.first = constants[0].plain
	}
	return c
}

// plain returns the n-th constant.
func (c *Condition) plain(n int) plain {
	if n == 0 {
		return c.first
	}
	return c.constants[n].plain
}

// Pack moves what evaluating conditions reads most into one piece of memory, in
// their order. They mean what they meant; nobody else may be using them yet.
func Pack(conditions ...*Condition) {
	var b strings.Builder
	size := 0
	for _, c := range conditions {
		size += len(c.first.text)
	}
	b.Grow(size)
	for _, c := range conditions {
		b.WriteString(c.first.text)
	}
	packed := b.String()
	for _, c := range conditions {
		n := len(c.first.text)
		c.first.text, packed = packed[:n], packed[n:]
	}
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
		return false, fmt.Errorf("the condition is %s, not true or false", article(v.Type().TypeName()))
	}
	return bool(holds), nil
}
