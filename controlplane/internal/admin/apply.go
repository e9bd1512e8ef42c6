package admin

import (
	"context"
	"errors"
	"slices"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/editor"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/observed"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
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
			_, action, err := edit.Put(m, editor.Intent{Create: true, Update: true, KeepPins: true})
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

// DeleteResources implements adminv1.ApplyServer: all of a file or nothing of it.
func (s *apply) DeleteResources(
	ctx context.Context, req *adminv1.DeleteResourcesRequest,
) (*adminv1.DeleteResourcesResponse, error) {
	kinds, err := kindsOf(req.GetNames())
	if err != nil {
		return nil, err
	}
	var removed []string
	revision, err := s.Ledger.Change(ctx, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) error {
		removed = nil
		edit := s.Begin(ctx, tx)
		for i, name := range req.GetNames() {
			err := edit.Remove(kinds[i], name, "")
			if errors.Is(err, store.ErrNotFound) && req.GetAllowMissing() {
				continue
			}
			if err != nil {
				return err
			}
			removed = append(removed, name)
		}
		return edit.Close()
	})
	switch {
	case err != nil:
		return nil, err
	case len(removed) == 0 || req.GetValidateOnly():
		return &adminv1.DeleteResourcesResponse{Names: removed}, nil
	}
	observed.Forget(ctx, s.Ledger, removed...)
	return &adminv1.DeleteResourcesResponse{Names: removed, Revision: revision}, ledger.Tell(ctx, revision)
}

// written are the kinds that a file can have, by collection.
var written = map[grant.Collection]noun.Resource{
	grant.Namespaces: (*grantv1.Namespace)(nil),
	grant.Agents:     (*grantv1.Agent)(nil),
	grant.Servers:    (*grantv1.Server)(nil),
	grant.Tools:      (*grantv1.Tool)(nil),
	grant.Grants:     (*grantv1.Grant)(nil),
}

// kindsOf returns what kinds of resources names are of. None may be there twice.
func kindsOf(names []string) ([]noun.Resource, error) {
	var kinds []noun.Resource
	for i, name := range names {
		n, err := grant.ParseName(name)
		kind := written[n.Collection]
		switch {
		case err != nil || kind == nil:
			return nil, refusal.Invalid("names[%d]: %q names nothing that can be deleted so: "+
				"write the name of a namespace, an agent, a server, a tool or a grant", i, name)
		case slices.Contains(names[:i], name):
			return nil, refusal.Invalid("names[%d]: %q is there twice: leave one out", i, name)
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
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
