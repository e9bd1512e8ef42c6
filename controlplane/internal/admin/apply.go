package admin

import (
	"context"

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
	revision, err := s.change(ctx, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) error {
		results, changed = nil, false
		var written []resource
		for _, m := range resources {
			next, action, err := s.put(ctx, tx, m, intent{create: true, update: true})
			if err != nil {
				return err
			}
			results = append(results, &adminv1.ApplyResourcesResponse_Result{Name: m.GetName(), Action: action})
			if action != adminv1.ApplyResourcesResponse_Result_UNCHANGED {
				written, changed = append(written, next), true
			}
		}
		// Only now is everything in its place that another may refer to.
		for _, m := range written {
			if err := refer(ctx, tx, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !changed || req.GetValidateOnly() {
		head, err := s.cfg.Store.Head(ctx)
		if err != nil {
			return nil, err
		}
		revision = head.Revision
	}
	return &adminv1.ApplyResourcesResponse{Results: results, Revision: revision}, tellRevision(ctx, revision)
}

// unwrap returns the resources of a file. None may be there twice.
func unwrap(wrapped []*adminv1.Resource) ([]resource, error) {
	var resources []resource
	seen := make(map[string]bool)
	for i, w := range wrapped {
		var m resource
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
			return nil, invalid("resources[%d]: it is of a kind that this control plane does not know", i)
		}
		if seen[m.GetName()] {
			return nil, invalid("%s: it is there twice: leave one out", label(m))
		}
		seen[m.GetName()] = true
		resources = append(resources, m)
	}
	return resources, nil
}
