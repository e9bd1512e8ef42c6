package admin_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// mutations returns, for every method that can be tried without being done, a
// request that would do something, and one that is refused.
func mutations(t *testing.T, w world) map[string][2]proto.Message {
	t.Helper()
	ns, extra := w.namespace, w.namespace+"-extra"
	missing := ns + "/grants/missing"
	agent := func(id string) *grantv1.Agent { return &grantv1.Agent{Name: ns + "/agents/" + id, Description: "new"} }
	server := func(id string) *grantv1.Server {
		return &grantv1.Server{Name: ns + "/servers/" + id, Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://127.0.0.1:2/mcp"}}}
	}
	newTool := func(server string) *grantv1.Tool {
		return tool(server+"/tools/close", definition(t, "close", ""))
	}
	grantOf := func(id, agent string) *grantv1.Grant {
		g := w.grantOf(id)
		g.Subjects = &grantv1.Subjects{Agents: []string{agent}}
		return g
	}
	session := w.agent + "/sessions/"
	return map[string][2]proto.Message{
		adminv1.Namespaces_CreateNamespace_FullMethodName: {
			&adminv1.CreateNamespaceRequest{Namespace: &grantv1.Namespace{Name: extra}, ValidateOnly: true},
			&adminv1.CreateNamespaceRequest{Namespace: &grantv1.Namespace{Name: ns}, ValidateOnly: true},
		},
		adminv1.Namespaces_UpdateNamespace_FullMethodName: {
			&adminv1.UpdateNamespaceRequest{Namespace: &grantv1.Namespace{Name: ns, Description: "new"}, ValidateOnly: true},
			&adminv1.UpdateNamespaceRequest{Namespace: &grantv1.Namespace{Name: extra}, ValidateOnly: true},
		},
		adminv1.Namespaces_DeleteNamespace_FullMethodName: {
			&adminv1.DeleteNamespaceRequest{Name: ns + "-empty", ValidateOnly: true}, &adminv1.DeleteNamespaceRequest{Name: ns, ValidateOnly: true},
		},
		adminv1.Agents_CreateAgent_FullMethodName: {
			&adminv1.CreateAgentRequest{Agent: agent("new"), ValidateOnly: true}, &adminv1.CreateAgentRequest{Agent: agent("support"), ValidateOnly: true},
		},
		adminv1.Agents_UpdateAgent_FullMethodName: {
			&adminv1.UpdateAgentRequest{Agent: agent("support"), ValidateOnly: true}, &adminv1.UpdateAgentRequest{Agent: agent("none"), ValidateOnly: true},
		},
		adminv1.Agents_DeleteAgent_FullMethodName: {
			&adminv1.DeleteAgentRequest{Name: ns + "/agents/idle", ValidateOnly: true}, &adminv1.DeleteAgentRequest{Name: w.agent, ValidateOnly: true},
		},
		adminv1.Agents_SuspendAgent_FullMethodName: {
			&adminv1.SuspendAgentRequest{Name: w.agent, ValidateOnly: true}, &adminv1.SuspendAgentRequest{Name: ns + "/agents/none", ValidateOnly: true},
		},
		adminv1.Agents_ResumeAgent_FullMethodName: {
			&adminv1.ResumeAgentRequest{Name: ns + "/agents/idle", ValidateOnly: true}, &adminv1.ResumeAgentRequest{Name: ns + "/agents/none", ValidateOnly: true},
		},
		adminv1.Agents_RetireAgent_FullMethodName: {
			&adminv1.RetireAgentRequest{Name: w.agent, ValidateOnly: true}, &adminv1.RetireAgentRequest{Name: ns + "/agents/none", ValidateOnly: true},
		},
		adminv1.Servers_CreateServer_FullMethodName: {
			&adminv1.CreateServerRequest{Server: server("new"), ValidateOnly: true}, &adminv1.CreateServerRequest{Server: server("desk"), ValidateOnly: true},
		},
		adminv1.Servers_UpdateServer_FullMethodName: {
			&adminv1.UpdateServerRequest{Server: server("desk"), ValidateOnly: true}, &adminv1.UpdateServerRequest{Server: server("none"), ValidateOnly: true},
		},
		adminv1.Servers_DeleteServer_FullMethodName: {
			&adminv1.DeleteServerRequest{Name: ns + "/servers/idle", ValidateOnly: true}, &adminv1.DeleteServerRequest{Name: w.server, ValidateOnly: true},
		},
		adminv1.Tools_CreateTool_FullMethodName: {
			&adminv1.CreateToolRequest{Tool: newTool(w.server), ValidateOnly: true}, &adminv1.CreateToolRequest{Tool: newTool(ns + "/servers/none"), ValidateOnly: true},
		},
		adminv1.Tools_UpdateTool_FullMethodName: {
			&adminv1.UpdateToolRequest{Tool: tool(w.tool, definition(t, "refund", "", "amount")), ValidateOnly: true},
			&adminv1.UpdateToolRequest{Tool: tool(w.tool, definition(t, "another", "")), ValidateOnly: true},
		},
		adminv1.Tools_DeleteTool_FullMethodName: {
			&adminv1.DeleteToolRequest{Name: w.server + "/tools/idle", ValidateOnly: true}, &adminv1.DeleteToolRequest{Name: w.tool, ValidateOnly: true},
		},
		adminv1.Tools_ImportTools_FullMethodName: {
			&adminv1.ImportToolsRequest{Parent: w.server, ValidateOnly: true, Tools: []*adminv1.ImportToolsRequest_Item{{Definition: definition(t, "refund", "", "amount")}}},
			&adminv1.ImportToolsRequest{Parent: w.server, ValidateOnly: true, Tools: []*adminv1.ImportToolsRequest_Item{{Definition: definition(t, "unclassified", "")}}},
		},
		adminv1.Grants_CreateGrant_FullMethodName: {
			&adminv1.CreateGrantRequest{Grant: grantOf("new", "support"), ValidateOnly: true}, &adminv1.CreateGrantRequest{Grant: grantOf("new", "none"), ValidateOnly: true},
		},
		adminv1.Grants_UpdateGrant_FullMethodName: {
			&adminv1.UpdateGrantRequest{Grant: grantOf("held", "idle"), ValidateOnly: true}, &adminv1.UpdateGrantRequest{Grant: grantOf("held", "none"), ValidateOnly: true},
		},
		adminv1.Grants_DeleteGrant_FullMethodName: {
			&adminv1.DeleteGrantRequest{Name: ns + "/grants/held", ValidateOnly: true}, &adminv1.DeleteGrantRequest{Name: missing, ValidateOnly: true},
		},
		adminv1.Grants_RevokeGrants_FullMethodName: {
			&adminv1.RevokeGrantsRequest{Parent: ns, Names: []string{ns + "/grants/held"}, Subjects: &grantv1.Subjects{Agents: []string{"support"}}, ValidateOnly: true},
			&adminv1.RevokeGrantsRequest{Parent: ns, Names: []string{missing}, ValidateOnly: true},
		},
		adminv1.Apply_ApplyResources_FullMethodName: {
			&adminv1.ApplyResourcesRequest{Resources: file(agent("new"), grantOf("new", "new")).GetResources(), ValidateOnly: true},
			&adminv1.ApplyResourcesRequest{Resources: file(agent("new"), grantOf("new", "none")).GetResources(), ValidateOnly: true},
		},
		adminv1.Apply_DeleteResources_FullMethodName: {
			&adminv1.DeleteResourcesRequest{Names: []string{w.tool, ns + "/grants/held"}, ValidateOnly: true},
			&adminv1.DeleteResourcesRequest{Names: []string{w.tool}, ValidateOnly: true},
		},
		adminv1.Fleet_HaltFleet_FullMethodName: {
			&adminv1.HaltFleetRequest{Name: ns + "/fleet", ValidateOnly: true}, &adminv1.HaltFleetRequest{Name: extra + "/fleet", ValidateOnly: true},
		},
		adminv1.Fleet_ResumeFleet_FullMethodName: {
			&adminv1.ResumeFleetRequest{Name: ns + "-empty/fleet", ValidateOnly: true}, &adminv1.ResumeFleetRequest{Name: ns + "/fleet", ValidateOnly: true},
		},
		adminv1.Sessions_StartSession_FullMethodName: {
			&adminv1.StartSessionRequest{Parent: w.agent, ValidateOnly: true}, &adminv1.StartSessionRequest{Parent: ns + "/agents/none", ValidateOnly: true},
		},
		adminv1.Sessions_EndSessions_FullMethodName: {
			&adminv1.EndSessionsRequest{Parent: ns, Agent: "support", ValidateOnly: true}, &adminv1.EndSessionsRequest{Parent: ns, Names: []string{session + "none"}, ValidateOnly: true},
		},
	}
}

// TestValidateOnly: whatever can be tried without being done stores nothing and
// makes no revision, and is refused as it would be.
func TestValidateOnly(t *testing.T) {
	// It looks at the head of the store that the tests share: nothing else may run.
	h, conn := alone(t, "admins/owner")
	w := newWorld(t, conn)
	empty := w.namespace + "-empty"
	_, err := adminv1.NewApplyClient(conn).ApplyResources(t.Context(), file(
		&grantv1.Namespace{Name: empty}, &grantv1.Namespace{Name: w.namespace + "-empty-2"},
		&grantv1.Agent{Name: w.namespace + "/agents/idle"}, w.grantOf("held"), tool(w.server+"/tools/idle", nil),
		&grantv1.Server{Name: w.namespace + "/servers/idle", Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://127.0.0.1:1/mcp"}}},
	))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = adminv1.NewAgentsClient(conn).SuspendAgent(t.Context(), &adminv1.SuspendAgentRequest{Name: w.namespace + "/agents/idle"}); err != nil {
		t.Fatal(err)
	}
	if _, err = adminv1.NewFleetClient(conn).HaltFleet(t.Context(), &adminv1.HaltFleetRequest{Name: empty + "/fleet"}); err != nil {
		t.Fatal(err)
	}
	cases := mutations(t, w)
	// DeleteNamespace needs one that is not halted.
	cases[adminv1.Namespaces_DeleteNamespace_FullMethodName][0].(*adminv1.DeleteNamespaceRequest).Name = w.namespace + "-empty-2" //nolint:forcetypeassert // the map is by the request's method
	if _, err = adminv1.NewSessionsClient(conn).StartSession(t.Context(), &adminv1.StartSessionRequest{Parent: w.agent}); err != nil {
		t.Fatal(err)
	}
	head := func() int64 {
		t.Helper()
		head, err := h.store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return head.Revision
	}
	before := head()
	for method, output := range tryable() {
		c, ok := cases[method]
		if !ok {
			t.Errorf("%s can be tried without being done, and is not tried here", method)
			continue
		}
		if err := call(t.Context(), conn, method, c[0], output); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		refused := call(t.Context(), conn, method, c[1], output)
		done := proto.Clone(c[1])
		done.ProtoReflect().Clear(done.ProtoReflect().Descriptor().Fields().ByName("validate_only"))
		if err := call(t.Context(), conn, method, done, output); err == nil || refused == nil || status.Convert(err).String() != status.Convert(refused).String() {
			t.Errorf("%s: refused with %v when tried, and %v when done", method, refused, err)
		}
		if now := head(); now != before {
			t.Errorf("%s: revision %d was made", method, now)
			before = now
		}
	}
}

// tryable returns the methods whose requests have validate_only, with the types of
// their answers.
func tryable() map[string]protoreflect.MessageDescriptor {
	methods := map[string]protoreflect.MessageDescriptor{}
	protoregistry.GlobalFiles.RangeFilesByPackage("reeve.admin.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			for j := range f.Services().Get(i).Methods().Len() {
				m := f.Services().Get(i).Methods().Get(j)
				if m.Input().Fields().ByName("validate_only") != nil {
					methods["/"+string(f.Services().Get(i).FullName())+"/"+string(m.Name())] = m.Output()
				}
			}
		}
		return true
	})
	return methods
}

func call(ctx context.Context, conn *grpc.ClientConn, method string, req proto.Message, output protoreflect.MessageDescriptor) error {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(output.FullName())
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, req, mt.New().Interface())
}
