package editor

import (
	"fmt"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// pin computes what follows of a tool's definition: nobody says it.
func pin(m noun.Resource) error {
	t, ok := m.(*grantv1.Tool)
	if !ok {
		return nil
	}
	t.Digest, t.InputSchema = "", ""
	parsed, err := grant.ParseTool(t, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", noun.Label(m), err)
	}
	t.Digest, t.InputSchema = parsed.Digest(), parsed.InputSchema()
	return nil
}

// keepPin leaves a tool pinned as it is if nothing is said of its definition, as
// files say nothing that were written before it was pinned.
func keepPin(before, next noun.Resource) {
	was, ok := before.(*grantv1.Tool)
	if is, _ := next.(*grantv1.Tool); ok && is.GetDefinition() == nil {
		is.Definition, is.Digest, is.InputSchema = was.GetDefinition(), was.GetDigest(), was.GetInputSchema()
	}
}
