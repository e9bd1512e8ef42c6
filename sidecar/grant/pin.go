package grant

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// A pin is the definition of a tool that was accepted. The zero pin accepts
// every definition.
type pin struct {
	digest, inputSchema string
}

var digestWord = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// nobodys is a pin that no definition has: its tool cannot be called.
var nobodys = pin{"sha256:" + strings.Repeat("0", 64), "{}"}

// pinOf returns the pin of the tool called name as it is stored, with its
// definition, or as it is streamed, without.
func pinOf(m *grantv1.Tool, name string) (pin, error) {
	switch digest, text := m.GetDigest(), m.GetInputSchema(); {
	case m.GetDefinition() != nil:
		p, err := pinTo(m.GetDefinition(), name)
		if err != nil {
			return pin{}, fmt.Errorf("definition: %w: %w", ErrInvalid, err)
		}
		return p, nil
	case digest == "" && text == "":
		return pin{}, nil
	case !digestWord.MatchString(digest):
		return pin{}, fmt.Errorf("digest: %w: %s", ErrInvalid, malformedDigest)
	case text == "":
		return pin{}, fmt.Errorf("input_schema: %w: want the schema of the arguments, since the tool is pinned", ErrInvalid)
	default:
		return pin{digest, text}, nil
	}
}

const malformedDigest = `want "sha256:" and 64 hexadecimal digits in lower case`

// pinTo returns the pin to a definition, which must be one of the tool.
func pinTo(definition *structpb.Struct, name string) (pin, error) {
	if got := definition.GetFields()["name"].GetStringValue(); got != name {
		return pin{}, fmt.Errorf("it is of a tool called %q, and not of %q", got, name)
	}
	digest, text, err := schema.DigestStruct(definition)
	if err != nil {
		return pin{}, err
	}
	input, err := schema.InputSchema(text)
	return pin{digest, input}, err
}

// compile returns the schema of the tool's arguments; nil if it is not pinned.
func (p pin) compile() (*schema.Schema, error) {
	if p.digest == "" {
		return nil, nil //nolint:nilnil // a tool that is not pinned has no schema
	}
	s, err := schema.Compile(p.inputSchema)
	if err != nil {
		return nil, fmt.Errorf("input_schema: %w: %w", ErrInvalid, err)
	}
	return s, nil
}
