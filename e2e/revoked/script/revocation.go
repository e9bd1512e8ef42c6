package script

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// A Revocation is authority to be taken, and how to give it back.
type Revocation struct {
	// Name says what is taken, for people.
	Name string
	// At is when to take it, from the schedule's beginning; Through and Waiter are
	// the replicas by which it is taken and waited for.
	At              time.Duration
	Through, Waiter int
	// Covers are the units that it takes.
	Covers map[oracle.Unit]bool
	// Sessions is called once, directly before it is taken, and returns the
	// resource names of the sessions that it ends; nil for none.
	Sessions func() map[string]bool
	// Command is what reevectl is told, which takes it and waits; if set, Take is
	// not.
	Command []string
	// Take returns the revision of the revocation.
	Take func(ctx context.Context, conn *grpc.ClientConn) (int64, error)
	// Taken reports whether it is taken, by this revocation or another. It reads
	// what is stored now.
	Taken func(ctx context.Context, conn *grpc.ClientConn) (bool, error)
	// Give is done as often as need be.
	Give func(ctx context.Context, conn *grpc.ClientConn) error
}

// String returns a line of a script.
func (r *Revocation) String() string {
	return fmt.Sprintf("%6v take %s through r%d, wait at r%d", r.At.Round(time.Millisecond), r.Name, r.Through, r.Waiter)
}

// units returns those that agents may have and that match.
func units(match func(oracle.Unit) bool) map[oracle.Unit]bool {
	covers := make(map[oracle.Unit]bool)
	for _, u := range cluster.Units() {
		if match(u) {
			covers[u] = true
		}
	}
	return covers
}

// pick returns one of some things.
func pick[T any](rng *rand.Rand, things []T) T { return things[rng.IntN(len(things))] }

// kinds are the ways to take authority. The last are rare: they take much, and
// little is left to be seen beside them.
var kinds = []func(*rand.Rand) *Revocation{
	deletion, deletion, byCommand, forbiddance, forbiddance, relabelling, suspension, halt,
}

func newRevocation(rng *rand.Rand) *Revocation { return pick(rng, kinds)(rng) }

// deletion removes the grants of an agent for a tool, at one server or at both.
func deletion(rng *rand.Rand) *Revocation {
	agent, tool := pick(rng, cluster.Agents), pick(rng, cluster.Direct)
	servers := slices.Clone(cluster.Servers[rng.IntN(len(cluster.Servers)):])
	var grants []*grantv1.Grant
	var names []string
	for _, s := range servers {
		g := cluster.DirectGrant(agent, s, tool)
		grants, names = append(grants, g), append(names, g.GetName())
	}
	return &Revocation{
		Name: fmt.Sprintf("grants %s for %s at %s", agent, tool, strings.Join(servers, ", ")),
		Covers: units(func(u oracle.Unit) bool {
			server, t, _ := strings.Cut(u.Target, "/")
			return u.Agent == agent && t == tool && slices.Contains(servers, server)
		}),
		Take: func(ctx context.Context, conn *grpc.ClientConn) (int64, error) {
			if len(names) == 1 {
				resp, err := adminv1.NewGrantsClient(conn).DeleteGrant(ctx, &adminv1.DeleteGrantRequest{Name: names[0]})
				return resp.GetRevision(), err
			}
			resp, err := adminv1.NewGrantsClient(conn).RevokeGrants(ctx, &adminv1.RevokeGrantsRequest{Parent: cluster.Namespace, Names: names})
			return resp.GetRevision(), err
		},
		Taken: gone(names...),
		Give: func(ctx context.Context, conn *grpc.ClientConn) error {
			for _, g := range grants {
				if err := Create(ctx, conn, g); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// gone reports whether grants are not there any more.
func gone(names ...string) func(context.Context, *grpc.ClientConn) (bool, error) {
	return func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
		for _, name := range names {
			_, err := adminv1.NewGrantsClient(conn).GetGrant(ctx, &adminv1.GetGrantRequest{Name: name})
			if status.Code(err) != codes.NotFound {
				return false, err
			}
		}
		return true, nil
	}
}

// byCommand is a deletion by reevectl revoke --wait.
func byCommand(rng *rand.Rand) *Revocation {
	agent, tool, server := pick(rng, cluster.Agents), pick(rng, cluster.Direct), pick(rng, cluster.Servers)
	g := cluster.DirectGrant(agent, server, tool)
	id := strings.TrimPrefix(g.GetName(), cluster.Namespace+"/grants/")
	return &Revocation{
		Name:    "grant " + id + " by reevectl",
		Covers:  map[oracle.Unit]bool{{Agent: agent, Target: server + "/" + tool}: true},
		Command: []string{"revoke", id, "-n", "lab", "--wait", "--timeout", "20s"},
		Taken:   gone(g.GetName()),
		Give:    func(ctx context.Context, conn *grpc.ClientConn) error { return Create(ctx, conn, g) },
	}
}

// relabelling changes a label that a grant selects by.
func relabelling(rng *rand.Rand) *Revocation {
	agent := pick(rng, cluster.Agents)
	relabel := func(ctx context.Context, conn *grpc.ClientConn, value string) (int64, error) {
		a := cluster.AgentOf(agent)
		a.Labels["crew"] = value
		resp, err := adminv1.NewAgentsClient(conn).UpdateAgent(ctx, &adminv1.UpdateAgentRequest{
			Agent: a, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"labels"}},
		})
		if err != nil {
			return 0, err
		}
		return revisionOf(resp.GetEtag())
	}
	return &Revocation{
		Name: "label crew=day from " + agent,
		Covers: units(func(u oracle.Unit) bool {
			return u.Agent == agent && strings.HasSuffix(u.Target, "/"+cluster.ByLabel)
		}),
		Take: func(ctx context.Context, conn *grpc.ClientConn) (int64, error) { return relabel(ctx, conn, "night") },
		Taken: func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
			a, err := adminv1.NewAgentsClient(conn).GetAgent(ctx, &adminv1.GetAgentRequest{Name: cluster.AgentOf(agent).GetName()})
			return a.GetLabels()["crew"] == "night", err
		},
		Give: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := relabel(ctx, conn, "day")
			return err
		},
	}
}

// suspension suspends an agent.
func suspension(rng *rand.Rand) *Revocation {
	agent := pick(rng, cluster.Agents)
	name := cluster.Namespace + "/agents/" + agent
	return &Revocation{
		Name:   "agent " + agent,
		Covers: units(func(u oracle.Unit) bool { return u.Agent == agent }),
		Take: func(ctx context.Context, conn *grpc.ClientConn) (int64, error) {
			resp, err := adminv1.NewAgentsClient(conn).SuspendAgent(ctx, &adminv1.SuspendAgentRequest{Name: name})
			if err != nil {
				return 0, err
			}
			return revisionOf(resp.GetEtag())
		},
		Taken: func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
			a, err := adminv1.NewAgentsClient(conn).GetAgent(ctx, &adminv1.GetAgentRequest{Name: name})
			return a.GetState() == grantv1.Agent_SUSPENDED, err
		},
		Give: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := adminv1.NewAgentsClient(conn).ResumeAgent(ctx, &adminv1.ResumeAgentRequest{Name: name})
			if status.Code(err) == codes.FailedPrecondition { // it is active
				return nil
			}
			return err
		},
	}
}

// halt halts the namespace, or everything.
func halt(rng *rand.Rand) *Revocation {
	return Halt(pick(rng, []string{"fleet", cluster.Namespace + "/fleet"}))
}

// Halt halts "fleet", which is everything, or a namespace's.
func Halt(name string) *Revocation {
	return &Revocation{
		Name:   name,
		Covers: units(func(oracle.Unit) bool { return true }),
		Take: func(ctx context.Context, conn *grpc.ClientConn) (int64, error) {
			resp, err := adminv1.NewFleetClient(conn).HaltFleet(ctx, &adminv1.HaltFleetRequest{Name: name})
			if err != nil {
				return 0, err
			}
			return revisionOf(resp.GetEtag())
		},
		Taken: func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
			page, err := adminv1.NewFleetClient(conn).ListFleetStates(ctx, &adminv1.ListFleetStatesRequest{})
			return slices.ContainsFunc(page.GetStates(), func(s *grantv1.FleetState) bool { return s.GetName() == name }), err
		},
		Give: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := adminv1.NewFleetClient(conn).ResumeFleet(ctx, &adminv1.ResumeFleetRequest{Name: name})
			if status.Code(err) == codes.NotFound {
				return nil
			}
			return err
		},
	}
}

// slowDeletion removes the grant that has a long bound of its own, which is
// there only in its schedule.
func slowDeletion() *Revocation {
	g := cluster.SlowGrant()
	return &Revocation{
		Name:   "the grant with a bound of " + cluster.SlowBound.String(),
		Covers: map[oracle.Unit]bool{{Agent: cluster.SlowAgent, Target: cluster.Servers[0] + "/" + cluster.Slow}: true},
		Take: func(ctx context.Context, conn *grpc.ClientConn) (int64, error) {
			resp, err := adminv1.NewGrantsClient(conn).DeleteGrant(ctx, &adminv1.DeleteGrantRequest{Name: g.GetName()})
			return resp.GetRevision(), err
		},
		Taken: gone(g.GetName()),
		// It was given before, and is not given back: others' waits would be as
		// long as its bound.
		Give: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := adminv1.NewGrantsClient(conn).DeleteGrant(ctx, &adminv1.DeleteGrantRequest{Name: g.GetName()})
			if status.Code(err) == codes.NotFound {
				return nil
			}
			return err
		},
	}
}

// Create creates a grant that may be there already.
func Create(ctx context.Context, conn *grpc.ClientConn, g *grantv1.Grant) error {
	_, err := adminv1.NewGrantsClient(conn).CreateGrant(ctx, &adminv1.CreateGrantRequest{Grant: g})
	if status.Code(err) == codes.AlreadyExists {
		return nil
	}
	return err
}

// revisionOf reads an etag, which is the revision of the change.
func revisionOf(etag string) (int64, error) {
	var revision int64
	if _, err := fmt.Sscan(etag, &revision); err != nil || revision <= 0 {
		return 0, fmt.Errorf("etag %q is no revision", etag)
	}
	return revision, nil
}
