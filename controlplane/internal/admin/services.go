package admin

import (
	"context"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/explain"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// The services below only name the messages; what a method does is the same for
// every noun.

type namespaces struct {
	adminv1.UnimplementedNamespacesServer
	*Admin
}

func (s *namespaces) GetNamespace(ctx context.Context, req *adminv1.GetNamespaceRequest) (*grantv1.Namespace, error) {
	return ledger.Get[*grantv1.Namespace](ctx, s.Ledger, req.GetName())
}

func (s *namespaces) ListNamespaces(ctx context.Context, req *adminv1.ListNamespacesRequest) (*adminv1.ListNamespacesResponse, error) {
	p, err := ledger.List[*grantv1.Namespace](ctx, s.Ledger, "", req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListNamespacesResponse{Namespaces: p.Items, NextPageToken: p.Next, Revision: p.Revision}, nil
}

func (s *namespaces) CreateNamespace(ctx context.Context, req *adminv1.CreateNamespaceRequest) (*grantv1.Namespace, error) {
	return create(ctx, s.Editor, req.GetNamespace(), req)
}

func (s *namespaces) UpdateNamespace(ctx context.Context, req *adminv1.UpdateNamespaceRequest) (*grantv1.Namespace, error) {
	return update(ctx, s.Editor, req.GetNamespace(), req)
}

func (s *namespaces) DeleteNamespace(ctx context.Context, req *adminv1.DeleteNamespaceRequest) (*adminv1.DeleteNamespaceResponse, error) {
	revision, err := remove[*grantv1.Namespace](ctx, s.Editor, req)
	if err != nil {
		return nil, err
	}
	return &adminv1.DeleteNamespaceResponse{Revision: revision}, nil
}

type agents struct {
	adminv1.UnimplementedAgentsServer
	*Admin
}

func (s *agents) GetAgent(ctx context.Context, req *adminv1.GetAgentRequest) (*grantv1.Agent, error) {
	return ledger.Get[*grantv1.Agent](ctx, s.Ledger, req.GetName())
}

func (s *agents) ListAgents(ctx context.Context, req *adminv1.ListAgentsRequest) (*adminv1.ListAgentsResponse, error) {
	p, err := ledger.List[*grantv1.Agent](ctx, s.Ledger, req.GetParent(), req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListAgentsResponse{Agents: p.Items, NextPageToken: p.Next, Revision: p.Revision}, nil
}

func (s *agents) CreateAgent(ctx context.Context, req *adminv1.CreateAgentRequest) (*grantv1.Agent, error) {
	return create(ctx, s.Editor, req.GetAgent(), req)
}

func (s *agents) UpdateAgent(ctx context.Context, req *adminv1.UpdateAgentRequest) (*grantv1.Agent, error) {
	return update(ctx, s.Editor, req.GetAgent(), req)
}

func (s *agents) DeleteAgent(ctx context.Context, req *adminv1.DeleteAgentRequest) (*adminv1.DeleteAgentResponse, error) {
	revision, err := remove[*grantv1.Agent](ctx, s.Editor, req)
	if err != nil {
		return nil, err
	}
	return &adminv1.DeleteAgentResponse{Revision: revision}, nil
}

type servers struct {
	adminv1.UnimplementedServersServer
	*Admin
}

func (s *servers) GetServer(ctx context.Context, req *adminv1.GetServerRequest) (*grantv1.Server, error) {
	return ledger.Get[*grantv1.Server](ctx, s.Ledger, req.GetName())
}

func (s *servers) ListServers(ctx context.Context, req *adminv1.ListServersRequest) (*adminv1.ListServersResponse, error) {
	p, err := ledger.List[*grantv1.Server](ctx, s.Ledger, req.GetParent(), req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListServersResponse{Servers: p.Items, NextPageToken: p.Next, Revision: p.Revision}, nil
}

func (s *servers) CreateServer(ctx context.Context, req *adminv1.CreateServerRequest) (*grantv1.Server, error) {
	return create(ctx, s.Editor, req.GetServer(), req)
}

func (s *servers) UpdateServer(ctx context.Context, req *adminv1.UpdateServerRequest) (*grantv1.Server, error) {
	return update(ctx, s.Editor, req.GetServer(), req)
}

func (s *servers) DeleteServer(ctx context.Context, req *adminv1.DeleteServerRequest) (*adminv1.DeleteServerResponse, error) {
	revision, err := remove[*grantv1.Server](ctx, s.Editor, req)
	if err != nil {
		return nil, err
	}
	return &adminv1.DeleteServerResponse{Revision: revision}, nil
}

type tools struct {
	adminv1.UnimplementedToolsServer
	*Admin
}

func (s *tools) GetTool(ctx context.Context, req *adminv1.GetToolRequest) (*grantv1.Tool, error) {
	return ledger.Get[*grantv1.Tool](ctx, s.Ledger, req.GetName())
}

func (s *tools) ListTools(ctx context.Context, req *adminv1.ListToolsRequest) (*adminv1.ListToolsResponse, error) {
	p, err := ledger.List[*grantv1.Tool](ctx, s.Ledger, req.GetParent(), req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListToolsResponse{Tools: p.Items, NextPageToken: p.Next, Revision: p.Revision}, nil
}

func (s *tools) CreateTool(ctx context.Context, req *adminv1.CreateToolRequest) (*grantv1.Tool, error) {
	return create(ctx, s.Editor, req.GetTool(), req)
}

func (s *tools) UpdateTool(ctx context.Context, req *adminv1.UpdateToolRequest) (*grantv1.Tool, error) {
	return update(ctx, s.Editor, req.GetTool(), req)
}

func (s *tools) DeleteTool(ctx context.Context, req *adminv1.DeleteToolRequest) (*adminv1.DeleteToolResponse, error) {
	revision, err := remove[*grantv1.Tool](ctx, s.Editor, req)
	if err != nil {
		return nil, err
	}
	return &adminv1.DeleteToolResponse{Revision: revision}, nil
}

type grants struct {
	adminv1.UnimplementedGrantsServer
	*Admin
}

func (s *grants) GetGrant(ctx context.Context, req *adminv1.GetGrantRequest) (*grantv1.Grant, error) {
	return ledger.Get[*grantv1.Grant](ctx, s.Ledger, req.GetName())
}

func (s *grants) ListGrants(ctx context.Context, req *adminv1.ListGrantsRequest) (*adminv1.ListGrantsResponse, error) {
	p, err := ledger.List[*grantv1.Grant](ctx, s.Ledger, req.GetParent(), req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListGrantsResponse{Grants: p.Items, NextPageToken: p.Next, Revision: p.Revision}, nil
}

func (s *grants) CreateGrant(ctx context.Context, req *adminv1.CreateGrantRequest) (*grantv1.Grant, error) {
	return create(ctx, s.Editor, req.GetGrant(), req)
}

func (s *grants) UpdateGrant(ctx context.Context, req *adminv1.UpdateGrantRequest) (*grantv1.Grant, error) {
	return update(ctx, s.Editor, req.GetGrant(), req)
}

func (s *grants) DeleteGrant(ctx context.Context, req *adminv1.DeleteGrantRequest) (*adminv1.DeleteGrantResponse, error) {
	revision, err := remove[*grantv1.Grant](ctx, s.Editor, req)
	if err != nil {
		return nil, err
	}
	return &adminv1.DeleteGrantResponse{Revision: revision}, nil
}

func (s *grants) ExplainCall(ctx context.Context, req *adminv1.ExplainCallRequest) (*adminv1.ExplainCallResponse, error) {
	return s.explainer().ExplainCall(ctx, req)
}

func (s *grants) WhoCan(ctx context.Context, req *adminv1.WhoCanRequest) (*adminv1.WhoCanResponse, error) {
	return s.explainer().WhoCan(ctx, req)
}

func (s *grants) explainer() *explain.Explainer {
	return &explain.Explainer{Ledger: s.Ledger, Now: s.Now}
}
