package admins

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// Changes implements adminv1.ChangesServer. Its fields are needed.
type Changes struct {
	adminv1.UnimplementedChangesServer
	// Ledger is where changes are kept.
	Ledger *ledger.Ledger
}

// ListChanges implements adminv1.ChangesServer. The page token is the sequence
// that the page before ended with: changes are never changed.
func (s *Changes) ListChanges(ctx context.Context, req *adminv1.ListChangesRequest) (*adminv1.ListChangesResponse, error) {
	var before int64
	if t := req.GetPageToken(); t != "" {
		var err error
		if before, err = strconv.ParseInt(t, 10, 64); err != nil || before <= 0 {
			return nil, refusal.Invalid("page_token: it is not one of this list: begin again without one")
		}
	}
	size := ledger.PageSize(req.GetPageSize())
	found, err := s.Ledger.Store.Changes(ctx, before, size)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ListChangesResponse{}
	bytes := 0
	for _, c := range found {
		resp.Changes, bytes = append(resp.Changes, c), bytes+proto.Size(c)
		if bytes > ledger.MaxPageBytes {
			break
		}
	}
	if n := len(resp.GetChanges()); n > 0 && (n == size || n < len(found)) && resp.GetChanges()[n-1].GetSequence() > 1 {
		resp.NextPageToken = strconv.FormatInt(resp.GetChanges()[n-1].GetSequence(), 10)
	}
	return resp, nil
}
