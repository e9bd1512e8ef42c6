// Package typing holds conditions against what tools take as arguments.
package typing

import (
	"cmp"
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"

	"github.com/reeve-authz/reeve/sidecar/schema"
)

// A Tool is a tool that the condition is evaluated for.
type Tool struct {
	Name string
	// Arguments is what is known of its arguments, if they are known.
	Arguments schema.Shape
	Known     bool
}

// argsName is the variable that holds the arguments.
const argsName = "args"

// Check reports what is wrong with a checked condition, as "at 1:6: …".
func Check(condition *cel.Ast, tools []Tool) error {
	c := checker{tree: condition.NativeRep(), anyone: make(map[int64]bool)}
	unknown := false
	for _, t := range tools {
		if !t.Known {
			unknown = true
			continue
		}
		c.tool = t.Name
		c.scope = map[string]kind{argsName: {class: object, shape: t.Arguments, name: argsName}}
		if k := c.infer(c.tree.Expr()); k.class != boolean && k.class != anything {
			c.fail(c.tree.Expr(), "it is %s; compare it with something, so that it is true or false", k)
		}
	}
	return c.worst(unknown)
}

// A checker goes through one condition, once for each tool.
type checker struct {
	tree     *ast.AST
	tool     string
	scope    map[string]kind
	problems []problem
	// dead is whether the part at hand does not matter for the tool: what is
	// wrong there is not a problem.
	dead bool
	// anyone holds the reads and tests, by id, of what some tool has.
	anyone map[int64]bool
}

// A problem is what is wrong with one expression for one tool.
type problem struct {
	at   int64
	tool string
	text string
	// absent is what the tool does not have, if that is the problem; tested is
	// whether it was only asked for; near is what was probably meant.
	absent, near string
	tested       bool
}

// fail notes a problem of an expression.
func (c *checker) fail(e ast.Expr, format string, args ...any) {
	c.note(problem{at: e.ID(), text: fmt.Sprintf(format, args...)})
}

func (c *checker) note(p problem) {
	if c.dead {
		return
	}
	p.tool = c.tool
	c.problems = append(c.problems, p)
}

// skip goes through a part that does not matter for the tool, for what the tool
// has.
func (c *checker) skip(e ast.Expr) {
	dead := c.dead
	c.dead = true
	c.infer(e)
	c.dead = dead
}

// worst returns the first problem in the text as an error. unknown is whether
// there are tools of which nothing is known.
func (c *checker) worst(unknown bool) error {
	c.problems = slices.DeleteFunc(c.problems, func(p problem) bool {
		return p.tested && (unknown || c.anyone[p.at])
	})
	if len(c.problems) == 0 {
		return nil
	}
	p := slices.MinFunc(c.problems, func(p, q problem) int {
		a, b := c.tree.SourceInfo().GetStartLocation(p.at), c.tree.SourceInfo().GetStartLocation(q.at)
		return cmp.Or(cmp.Compare(a.Line(), b.Line()), cmp.Compare(a.Column(), b.Column()))
	})
	at := c.tree.SourceInfo().GetStartLocation(p.at)
	return fmt.Errorf("at %d:%d: %s", at.Line(), at.Column()+1, p.message(unknown || c.anyone[p.at]))
}

// message says what is wrong; elsewhere is whether another tool may have what
// is absent.
func (p problem) message(elsewhere bool) string {
	switch {
	case p.absent == "":
		return fmt.Sprintf("%s (tool %s)", p.text, p.tool)
	case elsewhere && !p.tested:
		return fmt.Sprintf("%[1]s: tool %[2]s has no such argument, though others may; write has(%[1]s) && … or !has(%[1]s) || …", p.absent, p.tool)
	case p.near != "":
		return fmt.Sprintf("%s: tool %s has no such argument; did you mean %s?", p.absent, p.tool, p.near)
	default:
		return fmt.Sprintf("%s: tool %s has no such argument", p.absent, p.tool)
	}
}
