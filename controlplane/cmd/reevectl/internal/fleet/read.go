package fleet

import (
	"context"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// List returns the sidecars of a namespace, or of all if it is namespaces/-, and
// the last page of them.
func List(ctx context.Context, conn session.Conn, parent string) (found []*adminv1.Sidecar, last *adminv1.ListSidecarsResponse, err error) {
	found, err = session.Pages(ctx, 0, func(ctx context.Context, size int32, token string) (*adminv1.ListSidecarsResponse, error) {
		page, err := adminv1.NewSidecarsClient(conn).ListSidecars(ctx,
			&adminv1.ListSidecarsRequest{Parent: parent, PageSize: size, PageToken: token})
		last = page
		return page, err
	}, (*adminv1.ListSidecarsResponse).GetSidecars)
	return found, last, err
}

// ListReplicas returns the control planes.
func ListReplicas(ctx context.Context, conn session.Conn) ([]*adminv1.Replica, error) {
	ctx, cancel := session.Brief(ctx)
	defer cancel()
	resp, err := adminv1.NewSidecarsClient(conn).ListReplicas(ctx, &adminv1.ListReplicasRequest{})
	return resp.GetReplicas(), err
}

// ListHalts returns what is halted.
func ListHalts(ctx context.Context, conn session.Conn) ([]*grantv1.FleetState, error) {
	ctx, cancel := session.Brief(ctx)
	defer cancel()
	resp, err := adminv1.NewFleetClient(conn).ListFleetStates(ctx, &adminv1.ListFleetStatesRequest{})
	return resp.GetStates(), err
}

// Lift is the command that lifts a halt.
func Lift(name string) string {
	if ns := kind.NamespaceOf(name); ns != "" {
		return "reevectl fleet resume -n " + ns
	}
	return "reevectl fleet resume --all"
}
