package fleet

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// A Fleet knows what the sidecars of all control planes hold. Safe for concurrent
// use.
type Fleet interface {
	// List returns the sidecars that are connected or may still be fresh, in
	// order of agent and instance, and the names of the control planes that did
	// not answer, whose sidecars are missing.
	List(ctx context.Context) (all []*adminv1.Sidecar, unreachable []string)
	// Replicas returns the control planes that serve sidecars, or did and may
	// have left some fresh, in order of name and incarnation.
	Replicas(ctx context.Context) []*adminv1.Replica
	// Await returns nil when the revision, which the store must have reached, is
	// in force everywhere, and not before. Until then it calls progress whenever
	// there is some, and with in_force set before it returns nil. It fails with
	// the error of progress, or of ctx when that ends first.
	Await(ctx context.Context, revision int64, progress func(*adminv1.AwaitRevisionResponse) error) error
}

// Sidecars implements adminv1.SidecarsServer. Its fields are needed.
type Sidecars struct {
	adminv1.UnimplementedSidecarsServer
	// Ledger tells which revisions there are.
	Ledger *ledger.Ledger
	// Fleet knows what sidecars hold.
	Fleet Fleet
}

// ListSidecars implements adminv1.SidecarsServer.
func (s *Sidecars) ListSidecars(ctx context.Context, req *adminv1.ListSidecarsRequest) (*adminv1.ListSidecarsResponse, error) {
	prefix := req.GetParent() + "/"
	if n, err := grant.ParseName(req.GetParent()); req.GetParent() == "namespaces/-" {
		prefix = "namespaces/"
	} else if err != nil || n.Collection != grant.Namespaces {
		return nil, refusal.Invalid("parent: %q: write namespaces/{namespace}, or namespaces/- for all", req.GetParent())
	}
	// The list lives in memory and changes all the time, so a token only says
	// which sidecar the page before ended with.
	_, after, err := ledger.ParseToken(req.GetPageToken(), prefix)
	if err != nil {
		return nil, err
	}
	caller := guard.CallerFrom(ctx)
	newest, _ := s.Ledger.Newest()
	all, unreachable := s.Fleet.List(ctx)
	resp := &adminv1.ListSidecarsResponse{Revision: newest.Revision(), UnreachableReplicas: unreachable}
	for _, c := range all {
		at := c.GetAgent() + "/" + c.GetInstance()
		if !strings.HasPrefix(c.GetAgent(), prefix) || at <= after || !sees(caller, c) {
			continue
		}
		if len(resp.GetSidecars()) == ledger.PageSize(req.GetPageSize()) {
			last := resp.GetSidecars()[len(resp.GetSidecars())-1]
			resp.NextPageToken = ledger.Token(1, last.GetAgent()+"/"+last.GetInstance())
			break
		}
		resp.Sidecars = append(resp.Sidecars, c)
	}
	return resp, nil
}

// ListReplicas implements adminv1.SidecarsServer.
func (s *Sidecars) ListReplicas(ctx context.Context, _ *adminv1.ListReplicasRequest) (*adminv1.ListReplicasResponse, error) {
	return &adminv1.ListReplicasResponse{Replicas: s.Fleet.Replicas(ctx)}, nil
}

// AwaitRevision implements adminv1.SidecarsServer.
func (s *Sidecars) AwaitRevision(
	req *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse],
) error {
	ctx := stream.Context()
	revision := req.GetRevision()
	// What is published was made: that can be awaited also without the store.
	if newest, _ := s.Ledger.Newest(); revision == 0 || revision > newest.Revision() {
		head, err := s.Ledger.Store.Head(ctx)
		switch {
		case err != nil:
			return err
		case revision == 0:
			revision = head.Revision
		case revision > head.Revision:
			return refusal.Invalid("revision: %d is not made yet: the newest is %d", revision, head.Revision)
		}
	}
	caller := guard.CallerFrom(ctx)
	return s.Fleet.Await(ctx, revision, func(p *adminv1.AwaitRevisionResponse) error {
		// The counts are of everyone, for so is what is awaited.
		p.Stragglers = slices.DeleteFunc(p.GetStragglers(), func(c *adminv1.Sidecar) bool { return !sees(caller, c) })
		return stream.Send(p)
	})
}

// sees reports whether a caller may see a sidecar.
func sees(caller guard.Caller, c *adminv1.Sidecar) bool {
	n, err := grant.ParseName(c.GetAgent())
	return err == nil && caller.Sees("namespaces/"+n.Namespace)
}
