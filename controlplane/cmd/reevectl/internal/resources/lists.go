package resources

import (
	"context"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// ListOf returns all resources of a kind whose message is M in a namespace.
func ListOf[M any](ctx context.Context, conn session.Conn, k kind.Kind, namespace string) ([]M, error) {
	found, err := List(ctx, conn, k, namespace)
	var all []M
	for _, m := range found {
		if one, ok := m.(M); ok {
			all = append(all, one)
		}
	}
	return all, err
}

// Sessions returns the sessions of an agent, by its resource name; agents/- is all
// of a namespace.
func Sessions(ctx context.Context, conn session.Conn, agent string) ([]*grantv1.Session, error) {
	return session.Pages(ctx, 0, func(ctx context.Context, size int32, token string) (*adminv1.ListSessionsResponse, error) {
		return adminv1.NewSessionsClient(conn).ListSessions(ctx, &adminv1.ListSessionsRequest{Parent: agent, PageSize: size, PageToken: token})
	}, (*adminv1.ListSessionsResponse).GetSessions)
}

// maxObserved is how many observed tools are asked for at a time.
const maxObserved = 100

// Observed returns what sidecars saw of a server's tools; servers/- is all of a
// namespace.
func Observed(ctx context.Context, conn session.Conn, server string) ([]*adminv1.ObservedTool, error) {
	return session.Pages(ctx, 0, func(ctx context.Context, size int32, token string) (*adminv1.ListObservedToolsResponse, error) {
		return adminv1.NewToolsClient(conn).ListObservedTools(ctx,
			&adminv1.ListObservedToolsRequest{Parent: server, PageSize: min(size, maxObserved), PageToken: token})
	}, (*adminv1.ListObservedToolsResponse).GetTools)
}

// Tools returns the tools of a server.
func Tools(ctx context.Context, conn session.Conn, server string) ([]*grantv1.Tool, error) {
	return session.Pages(ctx, 0, func(ctx context.Context, size int32, token string) (*adminv1.ListToolsResponse, error) {
		return adminv1.NewToolsClient(conn).ListTools(ctx, &adminv1.ListToolsRequest{Parent: server, PageSize: size, PageToken: token})
	}, (*adminv1.ListToolsResponse).GetTools)
}

// WhoCan returns the agents of a namespace that may call a target.
func WhoCan(ctx context.Context, conn session.Conn, req *adminv1.WhoCanRequest) ([]*adminv1.WhoCanResponse_Holder, error) {
	return session.Pages(ctx, 0, func(ctx context.Context, size int32, token string) (*adminv1.WhoCanResponse, error) {
		return adminv1.NewGrantsClient(conn).WhoCan(ctx, &adminv1.WhoCanRequest{
			Parent: req.GetParent(), Target: req.GetTarget(), Time: req.GetTime(), PageSize: size, PageToken: token,
		})
	}, (*adminv1.WhoCanResponse).GetHolders)
}

// Decisions returns the newest decisions that a filter lets through, limit at the
// most, 0 being no limit.
func Decisions(ctx context.Context, conn session.Conn, filter *adminv1.DecisionFilter, limit int) ([]*adminv1.LoggedDecision, error) {
	return session.Pages(ctx, limit, func(ctx context.Context, size int32, token string) (*adminv1.ListDecisionsResponse, error) {
		return adminv1.NewDecisionsClient(conn).ListDecisions(ctx,
			&adminv1.ListDecisionsRequest{Filter: filter, PageSize: size, PageToken: token})
	}, (*adminv1.ListDecisionsResponse).GetDecisions)
}

// lookBack is how many changes are looked through for the one that last wrote a
// resource.
const lookBack = 5000

// LastChange returns the change that last wrote a resource, or nil if it is not
// among the newest.
func LastChange(ctx context.Context, conn session.Conn, name string) (*adminv1.Change, error) {
	token := ""
	for range lookBack / 1000 {
		page, err := changesPage(ctx, conn, token)
		if err != nil {
			return nil, err
		}
		for _, c := range page.GetChanges() {
			for _, e := range c.GetEntries() {
				if e.GetName() == name {
					return c, nil
				}
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	return nil, nil //nolint:nilnil // it is older than what is looked through
}

func changesPage(ctx context.Context, conn session.Conn, token string) (*adminv1.ListChangesResponse, error) {
	ctx, cancel := session.Brief(ctx)
	defer cancel()
	return adminv1.NewChangesClient(conn).ListChanges(ctx, &adminv1.ListChangesRequest{PageSize: 1000, PageToken: token})
}

// Covers says whether a grant's subjects cover an agent.
func Covers(s *grantv1.Subjects, agent *grantv1.Agent) bool {
	id := kind.Short(agent.GetName())
	for _, named := range s.GetAgents() {
		if named == id {
			return true
		}
	}
	return has(agent.GetLabels(), s.GetSelector().GetMatchLabels())
}
