package guard

import (
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

const (
	viewer = adminv1.Admin_VIEWER
	owner  = adminv1.Admin_OWNER
)

// roleOf is the least role that may call a method. A method that is not here
// may be called by nobody.
var roleOf = map[string]adminv1.Admin_Role{
	adminv1.Namespaces_GetNamespace_FullMethodName:    viewer,
	adminv1.Namespaces_ListNamespaces_FullMethodName:  viewer,
	adminv1.Namespaces_CreateNamespace_FullMethodName: owner,
	adminv1.Namespaces_UpdateNamespace_FullMethodName: owner,
	adminv1.Namespaces_DeleteNamespace_FullMethodName: owner,

	adminv1.Agents_GetAgent_FullMethodName:        viewer,
	adminv1.Agents_ListAgents_FullMethodName:      viewer,
	adminv1.Agents_CreateAgent_FullMethodName:     owner,
	adminv1.Agents_UpdateAgent_FullMethodName:     owner,
	adminv1.Agents_DeleteAgent_FullMethodName:     owner,
	adminv1.Agents_SuspendAgent_FullMethodName:    owner,
	adminv1.Agents_ResumeAgent_FullMethodName:     owner,
	adminv1.Agents_RetireAgent_FullMethodName:     owner,
	adminv1.Agents_CreateJoinToken_FullMethodName: owner,

	adminv1.Servers_GetServer_FullMethodName:    viewer,
	adminv1.Servers_ListServers_FullMethodName:  viewer,
	adminv1.Servers_CreateServer_FullMethodName: owner,
	adminv1.Servers_UpdateServer_FullMethodName: owner,
	adminv1.Servers_DeleteServer_FullMethodName: owner,

	adminv1.Tools_GetTool_FullMethodName:    viewer,
	adminv1.Tools_ListTools_FullMethodName:  viewer,
	adminv1.Tools_CreateTool_FullMethodName: owner,
	adminv1.Tools_UpdateTool_FullMethodName: owner,
	adminv1.Tools_DeleteTool_FullMethodName: owner,

	adminv1.Grants_GetGrant_FullMethodName:     viewer,
	adminv1.Grants_ListGrants_FullMethodName:   viewer,
	adminv1.Grants_CreateGrant_FullMethodName:  owner,
	adminv1.Grants_UpdateGrant_FullMethodName:  owner,
	adminv1.Grants_DeleteGrant_FullMethodName:  owner,
	adminv1.Grants_RevokeGrants_FullMethodName: owner,
	adminv1.Grants_ExplainCall_FullMethodName:  viewer,

	adminv1.Apply_ApplyResources_FullMethodName: owner,

	adminv1.Fleet_HaltFleet_FullMethodName:       owner,
	adminv1.Fleet_ResumeFleet_FullMethodName:     owner,
	adminv1.Fleet_ListFleetStates_FullMethodName: viewer,

	adminv1.Sidecars_ListSidecars_FullMethodName:  viewer,
	adminv1.Sidecars_ListReplicas_FullMethodName:  viewer,
	adminv1.Sidecars_AwaitRevision_FullMethodName: viewer,

	adminv1.Decisions_ListDecisions_FullMethodName:   viewer,
	adminv1.Decisions_FollowDecisions_FullMethodName: viewer,

	adminv1.Admins_CreateAdmin_FullMethodName: owner,
	adminv1.Admins_RenewAdmin_FullMethodName:  viewer,
	adminv1.Admins_RevokeAdmin_FullMethodName: owner,
	adminv1.Admins_ListAdmins_FullMethodName:  viewer,
	adminv1.Admins_GetSelf_FullMethodName:     viewer,

	adminv1.Changes_ListChanges_FullMethodName: viewer,
}

// May reports whether a role is enough for a method. An owner may do all that a
// viewer may.
func May(role adminv1.Admin_Role, method string) bool {
	need, known := roleOf[method]
	switch {
	case !known:
		return false
	case role == owner:
		return true
	default:
		return role == need
	}
}
