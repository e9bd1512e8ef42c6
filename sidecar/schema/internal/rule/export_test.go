package rule

import (
	"fmt"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// Holds reports whether a value of any kind satisfies a schema of any kind as
// JSON Schema has it, without the rule about names.
func Holds(schema, v strictjson.Value) (bool, error) {
	var n *node
	var err error
	switch s := schema.(type) {
	case bool:
		n = &node{never: !s}
	case *strictjson.Object:
		if n, err = compile(s); err != nil {
			return false, err
		}
	default:
		return false, fmt.Errorf("%w: not a schema", ErrInvalid)
	}
	r := run{steps: maxSteps, open: true}
	ok := r.level(n, v, true)
	return ok && !r.spent(), nil
}
