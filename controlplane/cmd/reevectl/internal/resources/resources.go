// Package resources reads and removes resources of any kind, and shows them as
// tables.
package resources

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// Get returns a resource by its resource name.
func Get(ctx context.Context, conn session.Conn, k kind.Kind, name string) (proto.Message, error) {
	ctx, cancel := session.Brief(ctx)
	defer cancel()
	switch k.Singular {
	case "namespace":
		return adminv1.NewNamespacesClient(conn).GetNamespace(ctx, &adminv1.GetNamespaceRequest{Name: name})
	case "agent":
		return adminv1.NewAgentsClient(conn).GetAgent(ctx, &adminv1.GetAgentRequest{Name: name})
	case "server":
		return adminv1.NewServersClient(conn).GetServer(ctx, &adminv1.GetServerRequest{Name: name})
	case "tool":
		return adminv1.NewToolsClient(conn).GetTool(ctx, &adminv1.GetToolRequest{Name: name})
	case "grant":
		return adminv1.NewGrantsClient(conn).GetGrant(ctx, &adminv1.GetGrantRequest{Name: name})
	default:
		return nil, fmt.Errorf("get %s: not a kind of resource", k.Singular)
	}
}

// List returns all resources of a kind in a namespace, in order of name.
func List(ctx context.Context, conn session.Conn, k kind.Kind, namespace string) ([]proto.Message, error) {
	parent := k.Parent(namespace)
	switch k.Singular {
	case "namespace":
		return pages(ctx, func(ctx context.Context, size int32, token string) (*adminv1.ListNamespacesResponse, error) {
			return adminv1.NewNamespacesClient(conn).ListNamespaces(ctx,
				&adminv1.ListNamespacesRequest{PageSize: size, PageToken: token})
		}, (*adminv1.ListNamespacesResponse).GetNamespaces)
	case "agent":
		return pages(ctx, func(ctx context.Context, size int32, token string) (*adminv1.ListAgentsResponse, error) {
			return adminv1.NewAgentsClient(conn).ListAgents(ctx,
				&adminv1.ListAgentsRequest{Parent: parent, PageSize: size, PageToken: token})
		}, (*adminv1.ListAgentsResponse).GetAgents)
	case "server":
		return pages(ctx, func(ctx context.Context, size int32, token string) (*adminv1.ListServersResponse, error) {
			return adminv1.NewServersClient(conn).ListServers(ctx,
				&adminv1.ListServersRequest{Parent: parent, PageSize: size, PageToken: token})
		}, (*adminv1.ListServersResponse).GetServers)
	case "tool":
		return pages(ctx, func(ctx context.Context, size int32, token string) (*adminv1.ListToolsResponse, error) {
			return adminv1.NewToolsClient(conn).ListTools(ctx,
				&adminv1.ListToolsRequest{Parent: parent, PageSize: size, PageToken: token})
		}, (*adminv1.ListToolsResponse).GetTools)
	case "grant":
		return pages(ctx, func(ctx context.Context, size int32, token string) (*adminv1.ListGrantsResponse, error) {
			return adminv1.NewGrantsClient(conn).ListGrants(ctx,
				&adminv1.ListGrantsRequest{Parent: parent, PageSize: size, PageToken: token})
		}, (*adminv1.ListGrantsResponse).GetGrants)
	default:
		return nil, fmt.Errorf("list %s: not a kind of resource", k.Plural)
	}
}

// pages reads a list to its end.
func pages[Page interface{ GetNextPageToken() string }, M proto.Message](
	ctx context.Context, read func(ctx context.Context, size int32, token string) (Page, error), items func(Page) []M,
) ([]proto.Message, error) {
	return session.Pages(ctx, 0, read, func(page Page) []proto.Message {
		var all []proto.Message
		for _, m := range items(page) {
			all = append(all, m)
		}
		return all
	})
}

// Delete removes a resource by its resource name, or has it checked only.
func Delete(ctx context.Context, conn session.Conn, k kind.Kind, name string, c *session.Change, opts ...grpc.CallOption) error {
	var err error
	switch k.Singular {
	case "namespace":
		_, err = adminv1.NewNamespacesClient(conn).DeleteNamespace(ctx,
			&adminv1.DeleteNamespaceRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
	case "agent":
		_, err = adminv1.NewAgentsClient(conn).DeleteAgent(ctx,
			&adminv1.DeleteAgentRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
	case "server":
		_, err = adminv1.NewServersClient(conn).DeleteServer(ctx,
			&adminv1.DeleteServerRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
	case "tool":
		_, err = adminv1.NewToolsClient(conn).DeleteTool(ctx,
			&adminv1.DeleteToolRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
	case "grant":
		_, err = adminv1.NewGrantsClient(conn).DeleteGrant(ctx,
			&adminv1.DeleteGrantRequest{Name: name, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
	default:
		err = fmt.Errorf("delete %s: not a kind of resource", k.Singular)
	}
	return err
}

// Update returns what a resource that is there would be once it was written; it
// changes nothing.
func Update(ctx context.Context, conn session.Conn, k kind.Kind, m proto.Message) (proto.Message, error) {
	ctx, cancel := session.Brief(ctx)
	defer cancel()
	switch m := m.(type) {
	case *grantv1.Namespace:
		return adminv1.NewNamespacesClient(conn).UpdateNamespace(ctx, &adminv1.UpdateNamespaceRequest{Namespace: m, ValidateOnly: true})
	case *grantv1.Agent:
		return adminv1.NewAgentsClient(conn).UpdateAgent(ctx, &adminv1.UpdateAgentRequest{Agent: m, ValidateOnly: true})
	case *grantv1.Server:
		return adminv1.NewServersClient(conn).UpdateServer(ctx, &adminv1.UpdateServerRequest{Server: m, ValidateOnly: true})
	case *grantv1.Tool:
		return adminv1.NewToolsClient(conn).UpdateTool(ctx, &adminv1.UpdateToolRequest{Tool: m, ValidateOnly: true})
	case *grantv1.Grant:
		return adminv1.NewGrantsClient(conn).UpdateGrant(ctx, &adminv1.UpdateGrantRequest{Grant: m, ValidateOnly: true})
	default:
		return nil, fmt.Errorf("update %s: not a kind of resource", k.Singular)
	}
}
