package script

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// forbiddance forbids agents by a label: one tool, or everything.
func forbiddance(rng *rand.Rand) *Revocation {
	wing, target := pick(rng, []string{"east", "west"}), pick(rng, cluster.Targets()[:len(cluster.Targets())-1])
	request := &adminv1.RevokeGrantsRequest{
		Parent:   cluster.Namespace,
		Subjects: &grantv1.Subjects{Selector: &grantv1.LabelSelector{MatchLabels: map[string]string{"wing": wing}}},
		Reason:   fmt.Sprintf("checker %d", rng.Uint32()),
	}
	name := "everything from wing " + wing
	if rng.IntN(3) > 0 {
		request.Targets = []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: target}}}
		name = target + " from wing " + wing
	}
	return &Revocation{
		Name: name,
		Covers: units(func(u oracle.Unit) bool {
			return cluster.Wing(u.Agent) == wing && (request.Targets == nil || u.Target == target)
		}),
		Take: func(ctx context.Context, conn *grpc.ClientConn) (int64, error) {
			resp, err := adminv1.NewGrantsClient(conn).RevokeGrants(ctx, request)
			return resp.GetRevision(), err
		},
		Taken: func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
			page, err := adminv1.NewGrantsClient(conn).ListGrants(ctx, &adminv1.ListGrantsRequest{Parent: cluster.Namespace, PageSize: 1000})
			return slices.ContainsFunc(page.GetGrants(), func(g *grantv1.Grant) bool {
				return g.GetEffect() == grantv1.Grant_FORBID && strings.Contains(g.GetDescription(), request.GetReason())
			}), err
		},
		Give: func(ctx context.Context, conn *grpc.ClientConn) error { return removeForbids(ctx, conn) },
	}
}

// removeForbids removes whatever forbids: what an answer did not tell, too.
func removeForbids(ctx context.Context, conn *grpc.ClientConn) error {
	grants := adminv1.NewGrantsClient(conn)
	page, err := grants.ListGrants(ctx, &adminv1.ListGrantsRequest{Parent: cluster.Namespace, PageSize: 1000})
	if err != nil {
		return err
	}
	for _, g := range page.GetGrants() {
		if g.GetEffect() != grantv1.Grant_FORBID {
			continue
		}
		if _, err := grants.DeleteGrant(ctx, &adminv1.DeleteGrantRequest{Name: g.GetName()}); err != nil && status.Code(err) != codes.NotFound {
			return err
		}
	}
	return nil
}
