package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/editor"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/observed"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// ImportTools implements adminv1.ToolsServer: all of what a server lists, or
// nothing of it.
func (s *tools) ImportTools(ctx context.Context, req *adminv1.ImportToolsRequest) (*adminv1.ImportToolsResponse, error) {
	server, err := noun.NameOf((*grantv1.Server)(nil), req.GetParent())
	if err != nil {
		return nil, refusal.Invalid("parent: %q: write namespaces/{namespace}/servers/{server}", req.GetParent())
	}
	given, err := itemsOf(server, req.GetTools())
	if err != nil {
		return nil, err
	}
	var results []*adminv1.ImportToolsResponse_Result
	revision, err := s.Ledger.Change(ctx, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) error {
		i := &imports{Edit: s.Begin(ctx, tx), accept: req.GetAcceptChanges()}
		results = nil
		for _, t := range given {
			result, err := i.take(ctx, tx, t)
			if err != nil {
				return err
			}
			results = append(results, result)
		}
		if len(i.changed) > 0 {
			return refusal.Impossible("pinned to other definitions: %s: look at what changed, "+
				"and accept it by accept_changes, which takes an approver", strings.Join(i.changed, ", "))
		}
		if err := i.Close(); err != nil {
			return err
		}
		return warn(ctx, tx, server, given, results)
	})
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ImportToolsResponse{Results: results}
	unchanged := !slices.ContainsFunc(results, func(r *adminv1.ImportToolsResponse_Result) bool {
		return r.GetAction() != adminv1.ImportToolsResponse_Result_UNCHANGED
	})
	if unchanged || req.GetValidateOnly() {
		return resp, nil
	}
	resp.Revision = revision
	return resp, ledger.Tell(ctx, revision)
}

// ListObservedTools implements adminv1.ToolsServer.
func (s *tools) ListObservedTools(
	ctx context.Context, req *adminv1.ListObservedToolsRequest,
) (*adminv1.ListObservedToolsResponse, error) {
	return observed.List(ctx, s.Ledger, req)
}

// itemsOf turns what a server lists into tools of the catalogue.
func itemsOf(server grant.Name, items []*adminv1.ImportToolsRequest_Item) ([]*grantv1.Tool, error) {
	var given []*grantv1.Tool
	for i, item := range items {
		id := item.GetDefinition().GetFields()["name"].GetStringValue()
		name := grant.ToolName(server.Namespace, server.ID, id)
		if n, err := grant.ParseName(name); err != nil || n.ID != id {
			return nil, refusal.Invalid("tools[%d].definition.name: %q is not the name of a tool: "+
				"a name has up to 128 of A-Z a-z 0-9 _ . / and -", i, id)
		}
		if slices.ContainsFunc(given, func(t *grantv1.Tool) bool { return t.GetName() == name }) {
			return nil, refusal.Invalid("tools[%d].definition.name: %q is there twice: leave one out", i, id)
		}
		given = append(given, &grantv1.Tool{
			Name: name, Definition: item.GetDefinition(), Effect: item.GetEffect(), Reach: item.GetReach(),
		})
	}
	return given, nil
}

// imports is one import.
type imports struct {
	*editor.Edit
	accept  bool
	changed []string // what is pinned otherwise, and was not to be replaced
}

// take stores one tool as the server lists it. What is not said of its
// classification stays as it is.
func (i *imports) take(ctx context.Context, tx *store.Tx, given *grantv1.Tool) (*adminv1.ImportToolsResponse_Result, error) {
	result := &adminv1.ImportToolsResponse_Result{Name: given.GetName()}
	r, err := tx.Get(ctx, given.GetName())
	if errors.Is(err, store.ErrNotFound) {
		result.Action = adminv1.ImportToolsResponse_Result_CREATED
		switch {
		case given.GetEffect() == grantv1.Tool_EFFECT_UNSPECIFIED:
			return nil, refusal.Invalid("%s: it is new: say its effect, which never comes from the server", noun.Label(given))
		case given.GetReach() == grantv1.Tool_REACH_UNSPECIFIED:
			return nil, refusal.Invalid("%s: it is new: say its reach, which never comes from the server", noun.Label(given))
		}
		_, _, err := i.Put(given, editor.Intent{Create: true})
		return result, err
	}
	if err != nil {
		return nil, err
	}
	before, err := noun.Stored[*grantv1.Tool](r)
	if err != nil {
		return nil, err
	}
	result.Action = adminv1.ImportToolsResponse_Result_PINNED
	if before.GetDefinition() != nil && !proto.Equal(before.GetDefinition(), given.GetDefinition()) {
		result.Action = adminv1.ImportToolsResponse_Result_ACCEPTED
		if !i.accept {
			i.changed = append(i.changed, fmt.Sprintf("%q", given.GetName()))
			return result, nil
		}
	}
	paths := []string{"definition"}
	if given.GetEffect() != grantv1.Tool_EFFECT_UNSPECIFIED {
		paths = append(paths, "effect")
	}
	if given.GetReach() != grantv1.Tool_REACH_UNSPECIFIED {
		paths = append(paths, "reach")
	}
	_, action, err := i.Put(given, editor.Intent{Update: true, Paths: paths})
	if action == editor.Unchanged {
		result.Action = adminv1.ImportToolsResponse_Result_UNCHANGED
	}
	return result, err
}

// maxWarnings is how many warnings there are of one tool.
const maxWarnings = 10

// warn adds to the results what an administrator should know: names that could
// be taken for those of other tools of the namespace, and text that nobody sees.
func warn(
	ctx context.Context, tx *store.Tx, server grant.Name, given []*grantv1.Tool, results []*adminv1.ImportToolsResponse_Result,
) error {
	all, err := tx.List(ctx, "namespaces/"+server.Namespace+"/servers/")
	if err != nil {
		return err
	}
	for i, t := range given {
		own, err := grant.ParseName(t.GetName())
		if err != nil {
			return err
		}
		var warnings []string
		for _, r := range all {
			other, err := grant.ParseName(r.Name)
			switch {
			case err != nil || other.Collection != grant.Tools || r.Name == t.GetName():
			case other.ID == own.ID:
				warnings = append(warnings, fmt.Sprintf("its name is that of %s/%s too", other.Server, other.ID))
			case schema.Confusable(own.ID, other.ID):
				warnings = append(warnings, fmt.Sprintf("its name could be taken for that of %s/%s", other.Server, other.ID))
			}
		}
		_, text, err := schema.DigestStruct(t.GetDefinition())
		if err != nil {
			return refusal.Invalid("%s: definition: %w", noun.Label(t), err)
		}
		hidden, err := schema.Hidden(text)
		if err != nil {
			return refusal.Invalid("%s: definition: %w", noun.Label(t), err)
		}
		for _, f := range hidden {
			warnings = append(warnings, fmt.Sprintf("definition.%s has text that nobody sees (%s): %s", f.Path, f.Kind, f.Shown))
		}
		if more := len(warnings) - maxWarnings; more > 0 {
			warnings = append(warnings[:maxWarnings], fmt.Sprintf("and %d more", more))
		}
		results[i].Warnings = warnings
	}
	return nil
}
