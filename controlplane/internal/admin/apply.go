package admin

import (
	"context"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/editor"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

type apply struct {
	adminv1.UnimplementedApplyServer
	*Admin
}

// ApplyResources implements adminv1.ApplyServer: all of a file or nothing of it.
func (s *apply) ApplyResources(
	ctx context.Context, req *adminv1.ApplyResourcesRequest,
) (*adminv1.ApplyResourcesResponse, error) {
	resources, err := unwrap(req.GetResources())
	if err != nil {
		return nil, err
	}
	var results []*adminv1.ApplyResourcesResponse_Result
	changed := false
	revision, err := s.Ledger.Change(ctx, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) error {
		results, changed = nil, false
		edit := s.Begin(ctx, tx)
		for _, m := range resources {
			_, action, err := edit.Put(m, editor.Intent{Create: true, Update: true})
			if err != nil {
				return err
			}
			results = append(results, &adminv1.ApplyResourcesResponse_Result{Name: m.GetName(), Action: action})
			changed = changed || action != editor.Unchanged
		}
		return edit.Close()
	})
	if err != nil {
		return nil, err
	}
	if !changed || req.GetValidateOnly() {
		head, err := s.Ledger.Store.Head(ctx)
		if err != nil {
			return nil, err
		}
		revision = head.Revision
	}
	return &adminv1.ApplyResourcesResponse{Results: results, Revision: revision}, ledger.Tell(ctx, revision)
}

// unwrap returns the resources of a file. None may be there twice.
func unwrap(wrapped []*adminv1.Resource) ([]noun.Resource, error) {
	var resources []noun.Resource
	seen := make(map[string]bool)
	for i, w := range wrapped {
		var m noun.Resource
		switch k := w.GetKind().(type) {
		case *adminv1.Resource_Namespace:
			m = k.Namespace
		case *adminv1.Resource_Agent:
			m = k.Agent
		case *adminv1.Resource_Server:
			m = k.Server
		case *adminv1.Resource_Tool:
			m = k.Tool
		case *adminv1.Resource_Grant:
			m = k.Grant
		default:
			return nil, refusal.Invalid("resources[%d]: it is of a kind that this control plane does not know", i)
		}
		if seen[m.GetName()] {
			return nil, refusal.Invalid("%s: it is there twice: leave one out", noun.Label(m))
		}
		seen[m.GetName()] = true
		resources = append(resources, m)
	}
	return resources, nil
}
