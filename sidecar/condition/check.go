package condition

import (
	"fmt"

	"github.com/reeve-authz/reeve/sidecar/condition/internal/typing"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// A ToolSchema is a tool that a grant covers and what is known of its
// arguments.
type ToolSchema struct {
	// Name is server/tool, for people.
	Name string
	// Schema is the pinned input schema; nil if the tool is not pinned.
	Schema *schema.Schema
}

// Check reports whether a condition that compiles could be right for the tools
// that its grant covers, of which the pinned ones say what their arguments are:
//
//   - An argument that no tool has is misspelt, unless some tool is not pinned.
//   - An argument that some pinned tool does not have must be guarded, so that
//     it does not matter where it is not: has(args.x) && args.x == 1,
//     !has(args.x) || args.x == 1, or has(args.x) ? args.x == 1 : true. For has
//     there may stand "x" in args, and either order of && and || will do, as CEL
//     has it.
//   - Arguments are used as what they are: an integer is an int; a number is
//     compared with any number, and converted by double() for more; a string, a
//     boolean, an array and an object are what they are, in loops too, and may
//     be null if the schema says so. What a schema leaves open is not checked.
//
// This is typing only, for whoever admits a grant: it changes nothing of what
// a condition means. It is safe for concurrent use. An error wraps ErrInvalid,
// names the place and the tool, and the argument that was probably meant.
func (c *Compiler) Check(expr string, tools []ToolSchema) error {
	ast, err := c.parse(expr)
	if err != nil {
		return err
	}
	known := make([]typing.Tool, len(tools))
	for i, t := range tools {
		known[i] = typing.Tool{Name: t.Name, Arguments: t.Schema.Arguments(), Known: t.Schema != nil}
	}
	if err := typing.Check(ast, known); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}
