package admin

import (
	"context"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// The services below only name the messages; what a method does is the same for
// every noun: change.go has how they change, list.go how they are read.

type namespaces struct {
	adminv1.UnimplementedNamespacesServer
	*Admin
}

func (s *namespaces) GetNamespace(ctx context.Context, req *adminv1.GetNamespaceRequest) (*grantv1.Namespace, error) {
	return get[*grantv1.Namespace](ctx, s.Admin, req.GetName())
}

func (s *namespaces) ListNamespaces(ctx context.Context, req *adminv1.ListNamespacesRequest) (*adminv1.ListNamespacesResponse, error) {
	p, err := list[*grantv1.Namespace](ctx, s.Admin, "", req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListNamespacesResponse{Namespaces: p.items, NextPageToken: p.next, Revision: p.revision}, nil
}

func (s *namespaces) CreateNamespace(ctx context.Context, req *adminv1.CreateNamespaceRequest) (*grantv1.Namespace, error) {
	return create(ctx, s.Admin, req.GetNamespace(), req)
}

func (s *namespaces) UpdateNamespace(ctx context.Context, req *adminv1.UpdateNamespaceRequest) (*grantv1.Namespace, error) {
	return update(ctx, s.Admin, req.GetNamespace(), req)
}

func (s *namespaces) DeleteNamespace(ctx context.Context, req *adminv1.DeleteNamespaceRequest) (*adminv1.DeleteNamespaceResponse, error) {
	revision, err := remove[*grantv1.Namespace](ctx, s.Admin, req)
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
	return get[*grantv1.Agent](ctx, s.Admin, req.GetName())
}

func (s *agents) ListAgents(ctx context.Context, req *adminv1.ListAgentsRequest) (*adminv1.ListAgentsResponse, error) {
	p, err := list[*grantv1.Agent](ctx, s.Admin, req.GetParent(), req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListAgentsResponse{Agents: p.items, NextPageToken: p.next, Revision: p.revision}, nil
}

func (s *agents) CreateAgent(ctx context.Context, req *adminv1.CreateAgentRequest) (*grantv1.Agent, error) {
	return create(ctx, s.Admin, req.GetAgent(), req)
}

func (s *agents) UpdateAgent(ctx context.Context, req *adminv1.UpdateAgentRequest) (*grantv1.Agent, error) {
	return update(ctx, s.Admin, req.GetAgent(), req)
}

func (s *agents) DeleteAgent(ctx context.Context, req *adminv1.DeleteAgentRequest) (*adminv1.DeleteAgentResponse, error) {
	revision, err := remove[*grantv1.Agent](ctx, s.Admin, req)
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
	return get[*grantv1.Server](ctx, s.Admin, req.GetName())
}

func (s *servers) ListServers(ctx context.Context, req *adminv1.ListServersRequest) (*adminv1.ListServersResponse, error) {
	p, err := list[*grantv1.Server](ctx, s.Admin, req.GetParent(), req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListServersResponse{Servers: p.items, NextPageToken: p.next, Revision: p.revision}, nil
}

func (s *servers) CreateServer(ctx context.Context, req *adminv1.CreateServerRequest) (*grantv1.Server, error) {
	return create(ctx, s.Admin, req.GetServer(), req)
}

func (s *servers) UpdateServer(ctx context.Context, req *adminv1.UpdateServerRequest) (*grantv1.Server, error) {
	return update(ctx, s.Admin, req.GetServer(), req)
}

func (s *servers) DeleteServer(ctx context.Context, req *adminv1.DeleteServerRequest) (*adminv1.DeleteServerResponse, error) {
	revision, err := remove[*grantv1.Server](ctx, s.Admin, req)
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
	return get[*grantv1.Tool](ctx, s.Admin, req.GetName())
}

func (s *tools) ListTools(ctx context.Context, req *adminv1.ListToolsRequest) (*adminv1.ListToolsResponse, error) {
	p, err := list[*grantv1.Tool](ctx, s.Admin, req.GetParent(), req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListToolsResponse{Tools: p.items, NextPageToken: p.next, Revision: p.revision}, nil
}

func (s *tools) CreateTool(ctx context.Context, req *adminv1.CreateToolRequest) (*grantv1.Tool, error) {
	return create(ctx, s.Admin, req.GetTool(), req)
}

func (s *tools) UpdateTool(ctx context.Context, req *adminv1.UpdateToolRequest) (*grantv1.Tool, error) {
	return update(ctx, s.Admin, req.GetTool(), req)
}

func (s *tools) DeleteTool(ctx context.Context, req *adminv1.DeleteToolRequest) (*adminv1.DeleteToolResponse, error) {
	revision, err := remove[*grantv1.Tool](ctx, s.Admin, req)
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
	return get[*grantv1.Grant](ctx, s.Admin, req.GetName())
}

func (s *grants) ListGrants(ctx context.Context, req *adminv1.ListGrantsRequest) (*adminv1.ListGrantsResponse, error) {
	p, err := list[*grantv1.Grant](ctx, s.Admin, req.GetParent(), req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListGrantsResponse{Grants: p.items, NextPageToken: p.next, Revision: p.revision}, nil
}

func (s *grants) CreateGrant(ctx context.Context, req *adminv1.CreateGrantRequest) (*grantv1.Grant, error) {
	return create(ctx, s.Admin, req.GetGrant(), req)
}

func (s *grants) UpdateGrant(ctx context.Context, req *adminv1.UpdateGrantRequest) (*grantv1.Grant, error) {
	return update(ctx, s.Admin, req.GetGrant(), req)
}

func (s *grants) DeleteGrant(ctx context.Context, req *adminv1.DeleteGrantRequest) (*adminv1.DeleteGrantResponse, error) {
	revision, err := remove[*grantv1.Grant](ctx, s.Admin, req)
	if err != nil {
		return nil, err
	}
	return &adminv1.DeleteGrantResponse{Revision: revision}, nil
}
