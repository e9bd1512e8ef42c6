package admin

import (
	"context"
	"strings"

	"google.golang.org/grpc"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

type sidecars struct {
	adminv1.UnimplementedSidecarsServer
	*Admin
}

// ListSidecars implements adminv1.SidecarsServer.
func (s *sidecars) ListSidecars(ctx context.Context, req *adminv1.ListSidecarsRequest) (*adminv1.ListSidecarsResponse, error) {
	prefix := req.GetParent() + "/"
	if n, err := grant.ParseName(req.GetParent()); req.GetParent() == "namespaces/-" {
		prefix = "namespaces/"
	} else if err != nil || n.Collection != grant.Namespaces {
		return nil, invalid("parent: %q: write namespaces/{namespace}, or namespaces/- for all", req.GetParent())
	}
	// The list lives in memory and changes all the time, so a token only says
	// which sidecar the page before ended with.
	_, after, err := parseToken(req.GetPageToken(), prefix)
	if err != nil {
		return nil, err
	}
	newest, _ := s.cfg.Newest()
	all, unreachable := s.cfg.Fleet.List(ctx)
	resp := &adminv1.ListSidecarsResponse{Revision: newest.Revision(), UnreachableReplicas: unreachable}
	for _, c := range all {
		at := c.GetAgent() + "/" + c.GetInstance()
		if !strings.HasPrefix(c.GetAgent(), prefix) || at <= after {
			continue
		}
		if len(resp.GetSidecars()) == pageSize(req.GetPageSize()) {
			last := resp.GetSidecars()[len(resp.GetSidecars())-1]
			resp.NextPageToken = token(1, last.GetAgent()+"/"+last.GetInstance())
			break
		}
		resp.Sidecars = append(resp.Sidecars, c)
	}
	return resp, nil
}

// ListReplicas implements adminv1.SidecarsServer.
func (s *sidecars) ListReplicas(ctx context.Context, _ *adminv1.ListReplicasRequest) (*adminv1.ListReplicasResponse, error) {
	return &adminv1.ListReplicasResponse{Replicas: s.cfg.Fleet.Replicas(ctx)}, nil
}

// AwaitRevision implements adminv1.SidecarsServer.
func (s *sidecars) AwaitRevision(
	req *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse],
) error {
	ctx := stream.Context()
	head, err := s.cfg.Store.Head(ctx)
	if err != nil {
		return err
	}
	revision := req.GetRevision()
	switch {
	case revision == 0:
		revision = head.Revision
	case revision > head.Revision:
		return invalid("revision: %d is not made yet: the newest is %d", revision, head.Revision)
	}
	return s.cfg.Fleet.Await(ctx, revision, stream.Send)
}
