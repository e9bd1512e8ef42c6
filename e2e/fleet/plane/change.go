package plane

import (
	"context"
	"fmt"
	"strconv"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// ForbidFleet forbids the whole fleet a tool by a new grant of the id, and
// returns the revision.
func (p *Plane) ForbidFleet(ctx context.Context, id string) (int64, error) {
	return p.create(ctx, fleetGrant(id, 0))
}

// ForbidAgent forbids one agent, by its number, a tool.
func (p *Plane) ForbidAgent(ctx context.Context, agent int, id string) (int64, error) {
	g := fleetGrant(id, 0)
	g.Subjects = &grantv1.Subjects{Agents: []string{fmt.Sprintf("a%05d", agent)}}
	return p.create(ctx, g)
}

func (p *Plane) create(ctx context.Context, g *grantv1.Grant) (int64, error) {
	made, err := adminv1.NewGrantsClient(p.conn).CreateGrant(ctx, &adminv1.CreateGrantRequest{Grant: g})
	if err != nil {
		return 0, fmt.Errorf("create %s: %w", g.GetName(), err)
	}
	return strconv.ParseInt(made.GetEtag(), 10, 64)
}

// Lift removes the grants of the ids in one change after another, and returns
// the last revision.
func (p *Plane) Lift(ctx context.Context, ids ...string) (revision int64, err error) {
	for _, id := range ids {
		name := fmt.Sprintf("namespaces/%s/grants/%s", namespace, id)
		r, err := adminv1.NewGrantsClient(p.conn).DeleteGrant(ctx, &adminv1.DeleteGrantRequest{Name: name})
		if err != nil {
			return 0, fmt.Errorf("delete %s: %w", name, err)
		}
		revision = r.GetRevision()
	}
	return revision, nil
}
