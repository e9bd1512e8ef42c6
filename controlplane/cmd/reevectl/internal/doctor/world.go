package doctor

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// A Namespace is what is in a namespace.
type Namespace struct {
	ID       string
	Agents   []*grantv1.Agent
	Servers  []*grantv1.Server
	Tools    []*grantv1.Tool
	Grants   []*grantv1.Grant
	Observed []*adminv1.ObservedTool
	// Misfits are why grants, by resource name, would be refused if they were
	// written now.
	Misfits map[string]string
}

// A World is all that is judged.
type World struct {
	Now         time.Time
	Namespaces  []Namespace
	Sidecars    []*adminv1.Sidecar
	Revision    int64
	Unreachable []string
	Replicas    []*adminv1.Replica
	Halts       []*grantv1.FleetState
}

// Read reads the world: one namespace, or all that can be read if it is empty.
func Read(ctx context.Context, conn session.Conn, namespace string, now time.Time) (*World, error) {
	w := &World{Now: now}
	ids, parent := []string{namespace}, "namespaces/"+namespace
	if namespace == "" {
		found, err := resources.ListOf[*grantv1.Namespace](ctx, conn, kind.Namespace, "")
		if err != nil {
			return nil, err
		}
		ids, parent = nil, "namespaces/-"
		for _, n := range found {
			ids = append(ids, kind.Short(n.GetName()))
		}
	}
	for _, id := range ids {
		n, err := readNamespace(ctx, conn, id)
		if err != nil {
			return nil, fmt.Errorf("read namespace %s: %w", id, err)
		}
		w.Namespaces = append(w.Namespaces, n)
	}
	var (
		page *adminv1.ListSidecarsResponse
		err  error
	)
	if w.Sidecars, page, err = fleet.List(ctx, conn, parent); err != nil {
		return nil, err
	}
	w.Revision, w.Unreachable = page.GetRevision(), page.GetUnreachableReplicas()
	if w.Replicas, err = fleet.ListReplicas(ctx, conn); err != nil {
		return nil, err
	}
	w.Halts, err = fleet.ListHalts(ctx, conn)
	return w, err
}

func readNamespace(ctx context.Context, conn session.Conn, id string) (n Namespace, err error) {
	n.ID = id
	if n.Agents, err = resources.ListOf[*grantv1.Agent](ctx, conn, kind.Agent, id); err != nil {
		return n, err
	}
	if n.Servers, err = resources.ListOf[*grantv1.Server](ctx, conn, kind.Server, id); err != nil {
		return n, err
	}
	if n.Tools, err = resources.ListOf[*grantv1.Tool](ctx, conn, kind.Tool, id); err != nil {
		return n, err
	}
	if n.Grants, err = resources.ListOf[*grantv1.Grant](ctx, conn, kind.Grant, id); err != nil {
		return n, err
	}
	n.Observed, err = resources.Observed(ctx, conn, "namespaces/"+id+"/servers/-")
	if status.Code(err) == codes.Unimplemented || status.Code(err) == codes.PermissionDenied {
		err = nil // then there is nothing to say of it
	}
	if err != nil {
		return n, err
	}
	n.Misfits, err = misfits(ctx, conn, n.Grants)
	return n, err
}

// maxChecked is how many grants with a condition are checked.
const maxChecked = 500

// misfits has the control plane check the grants with a condition as if they were
// written now: tools may have changed since they were.
func misfits(ctx context.Context, conn session.Conn, grants []*grantv1.Grant) (map[string]string, error) {
	found := make(map[string]string)
	checked := 0
	for _, g := range grants {
		if g.GetCondition() == "" || checked == maxChecked {
			continue
		}
		checked++
		brief, cancel := session.Brief(ctx)
		_, err := adminv1.NewApplyClient(conn).ApplyResources(brief, &adminv1.ApplyResourcesRequest{
			Resources: []*adminv1.Resource{kind.Grant.Wrap(g)}, ValidateOnly: true,
		})
		cancel()
		switch status.Code(err) {
		case codes.InvalidArgument, codes.FailedPrecondition:
			found[g.GetName()] = status.Convert(err).Message()
		case codes.PermissionDenied:
			return found, nil // who may not write is not told
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
			return nil, err
		default: // an expired grant, or one that others changed meanwhile, says nothing of its condition
		}
	}
	return found, nil
}

// Unread says that the world could not be read.
func (r *Report) Unread(err error) {
	r.fail("control plane", "ask an owner for a role everywhere, or give the namespace that you have one in with -n",
		"what it knows cannot be read: %s", status.Convert(err).Message())
}
