package guard

import (
	"slices"
	"strings"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// What is decided within a method, when it is known what a request changes.
const (
	// Write is to write agents, servers, tools and grants.
	Write = "write agents, servers, tools and grants"
	// Accept is to let a tool's pinned definition be replaced, or the tool go
	// without it.
	Accept = "replace or remove a pinned definition"
	// Lift is to remove a grant that forbids.
	Lift = "remove a grant that forbids"
)

// roles is a set of roles.
type roles uint8

const (
	viewer   roles = 1 << adminv1.Admin_VIEWER
	owner    roles = 1 << adminv1.Admin_OWNER
	auditor  roles = 1 << adminv1.Admin_AUDITOR
	operator roles = 1 << adminv1.Admin_OPERATOR
	author   roles = 1 << adminv1.Admin_AUTHOR
	approver roles = 1 << adminv1.Admin_APPROVER

	// everyone reads what is there; auditors read what was done.
	everyone = viewer | owner | auditor | operator | author | approver
	auditors = auditor | owner
	// authors write, approvers accept what an author may not decide alone.
	authors   = author | owner
	approvers = approver | owner
	editors   = author | approver | owner
	operators = operator | owner
	// stoppers take authority away: nobody needs anybody's leave for that.
	stoppers = operator | author | approver | owner
)

// order is in which the roles are named.
var order = []adminv1.Admin_Role{
	adminv1.Admin_VIEWER, adminv1.Admin_AUDITOR, adminv1.Admin_OPERATOR,
	adminv1.Admin_AUTHOR, adminv1.Admin_APPROVER, adminv1.Admin_OWNER,
}

// has reports whether a role is in the set.
func (s roles) has(r adminv1.Admin_Role) bool {
	return slices.Contains(order, r) && s&(1<<r) != 0
}

// String names the roles: "author, approver or owner".
func (s roles) String() string {
	var words []string
	for _, r := range order {
		if s.has(r) {
			words = append(words, strings.ToLower(r.String()))
		}
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// where a role must be held.
type where uint8

const (
	// inside: in every namespace that the request names, or everywhere. A request
	// that names none, or all, needs it everywhere.
	inside where = iota
	// everywhere: not only in some namespaces.
	everywhere
	// across: in any namespace; the method shows only what is in those. A request
	// that names a namespace needs it there.
	across
)

// rule says who may call a method.
type rule struct {
	roles roles
	where where
	// wide are the roles for a request that is about everything; none is as roles.
	wide roles
}

// rules are who may call what. A method that is not here may be called by
// nobody.
var rules = map[string]rule{
	adminv1.Namespaces_GetNamespace_FullMethodName:    {roles: everyone},
	adminv1.Namespaces_ListNamespaces_FullMethodName:  {roles: everyone, where: across},
	adminv1.Namespaces_CreateNamespace_FullMethodName: {roles: owner, where: everywhere},
	adminv1.Namespaces_UpdateNamespace_FullMethodName: {roles: owner},
	adminv1.Namespaces_DeleteNamespace_FullMethodName: {roles: owner, where: everywhere},

	adminv1.Agents_GetAgent_FullMethodName:        {roles: everyone},
	adminv1.Agents_ListAgents_FullMethodName:      {roles: everyone},
	adminv1.Agents_CreateAgent_FullMethodName:     {roles: authors},
	adminv1.Agents_UpdateAgent_FullMethodName:     {roles: authors},
	adminv1.Agents_DeleteAgent_FullMethodName:     {roles: authors},
	adminv1.Agents_SuspendAgent_FullMethodName:    {roles: stoppers},
	adminv1.Agents_ResumeAgent_FullMethodName:     {roles: approvers},
	adminv1.Agents_RetireAgent_FullMethodName:     {roles: authors},
	adminv1.Agents_CreateJoinToken_FullMethodName: {roles: operators},

	adminv1.Servers_GetServer_FullMethodName:    {roles: everyone},
	adminv1.Servers_ListServers_FullMethodName:  {roles: everyone},
	adminv1.Servers_CreateServer_FullMethodName: {roles: authors},
	adminv1.Servers_UpdateServer_FullMethodName: {roles: authors},
	adminv1.Servers_DeleteServer_FullMethodName: {roles: authors},

	adminv1.Tools_GetTool_FullMethodName:           {roles: everyone},
	adminv1.Tools_ListTools_FullMethodName:         {roles: everyone},
	adminv1.Tools_CreateTool_FullMethodName:        {roles: authors},
	adminv1.Tools_UpdateTool_FullMethodName:        {roles: editors},
	adminv1.Tools_DeleteTool_FullMethodName:        {roles: authors},
	adminv1.Tools_ImportTools_FullMethodName:       {roles: editors},
	adminv1.Tools_ListObservedTools_FullMethodName: {roles: everyone},

	adminv1.Grants_GetGrant_FullMethodName:     {roles: everyone},
	adminv1.Grants_ListGrants_FullMethodName:   {roles: everyone},
	adminv1.Grants_CreateGrant_FullMethodName:  {roles: authors},
	adminv1.Grants_UpdateGrant_FullMethodName:  {roles: authors},
	adminv1.Grants_DeleteGrant_FullMethodName:  {roles: authors},
	adminv1.Grants_RevokeGrants_FullMethodName: {roles: stoppers},
	adminv1.Grants_ExplainCall_FullMethodName:  {roles: everyone},
	adminv1.Grants_WhoCan_FullMethodName:       {roles: everyone},

	adminv1.Sessions_GetSession_FullMethodName:   {roles: everyone},
	adminv1.Sessions_ListSessions_FullMethodName: {roles: everyone},
	adminv1.Sessions_StartSession_FullMethodName: {roles: operators},
	adminv1.Sessions_EndSessions_FullMethodName:  {roles: stoppers},

	adminv1.Apply_ApplyResources_FullMethodName:  {roles: editors},
	adminv1.Apply_DeleteResources_FullMethodName: {roles: authors},

	adminv1.Fleet_HaltFleet_FullMethodName:       {roles: stoppers, wide: owner},
	adminv1.Fleet_ResumeFleet_FullMethodName:     {roles: owner},
	adminv1.Fleet_ListFleetStates_FullMethodName: {roles: everyone, where: across},

	adminv1.Sidecars_ListSidecars_FullMethodName:  {roles: everyone, where: across},
	adminv1.Sidecars_ListReplicas_FullMethodName:  {roles: everyone, where: across},
	adminv1.Sidecars_AwaitRevision_FullMethodName: {roles: everyone, where: across},

	adminv1.Decisions_ListDecisions_FullMethodName:   {roles: auditors},
	adminv1.Decisions_FollowDecisions_FullMethodName: {roles: auditors},

	adminv1.Admins_CreateAdmin_FullMethodName: {roles: owner, where: everywhere},
	adminv1.Admins_UpdateAdmin_FullMethodName: {roles: owner, where: everywhere},
	adminv1.Admins_RevokeAdmin_FullMethodName: {roles: owner, where: everywhere},
	adminv1.Admins_ListAdmins_FullMethodName:  {roles: auditors, where: everywhere},
	adminv1.Admins_RenewAdmin_FullMethodName:  {roles: everyone, where: across},
	adminv1.Admins_GetSelf_FullMethodName:     {roles: everyone, where: across},

	adminv1.Changes_ListChanges_FullMethodName: {roles: auditors, where: everywhere},

	Write:  {roles: authors},
	Accept: {roles: approvers},
	Lift:   {roles: authors},
}

// held reports whether an administrator has one of the roles in a namespace,
// namespaces/{namespace}; "" is everywhere.
func held(a *adminv1.Admin, need roles, namespace string) bool {
	return need.has(a.GetRole()) || namespace != "" &&
		slices.ContainsFunc(a.GetBindings(), func(b *adminv1.Admin_Binding) bool {
			return b.GetNamespace() == namespace && need.has(b.GetRole())
		})
}

// heldAnywhere reports whether an administrator has one of the roles at all.
func heldAnywhere(a *adminv1.Admin, need roles) bool {
	return need.has(a.GetRole()) || slices.ContainsFunc(a.GetBindings(), func(b *adminv1.Admin_Binding) bool {
		return need.has(b.GetRole())
	})
}

// lacking returns where an administrator lacks the roles that a method needs for
// a request about s, and which these are; ok if it lacks none.
func lacking(a *adminv1.Admin, method string, s scope) (need roles, namespace string, ok bool) {
	r, known := rules[method]
	switch {
	case !known:
		return 0, "", false
	case r.where == everywhere:
		return r.roles, "", held(a, r.roles, "")
	case s.wide && r.where == across:
		return r.roles, "", heldAnywhere(a, r.roles)
	case s.wide:
		if r.wide != 0 {
			r.roles = r.wide
		}
		return r.roles, "", held(a, r.roles, "")
	}
	for _, namespace := range s.namespaces {
		if !held(a, r.roles, namespace) {
			return r.roles, namespace, false
		}
	}
	return r.roles, "", true
}
