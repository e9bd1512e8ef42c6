package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// Sizes of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

// Decisions implements adminv1.DecisionsServer over a log. Who may call it is
// settled before.
type Decisions struct {
	adminv1.UnimplementedDecisionsServer
	records *journal.Log
	log     *slog.Logger
}

// NewDecisions returns the service.
func NewDecisions(l *journal.Log, log *slog.Logger) *Decisions {
	return &Decisions{records: l, log: log}
}

// ListDecisions implements adminv1.DecisionsServer.
func (s *Decisions) ListDecisions(ctx context.Context, req *adminv1.ListDecisionsRequest) (*adminv1.ListDecisionsResponse, error) {
	f, err := parseFilter(req.GetFilter())
	if err != nil {
		return nil, statusOf(ctx, s.log, err)
	}
	from, err := parseToken(req.GetPageToken(), req.GetFilter())
	if err != nil {
		return nil, statusOf(ctx, s.log, err)
	}
	size := int(req.GetPageSize())
	if size <= 0 {
		size = defaultPage
	}
	page, next, done, err := list(ctx, s.records, f, from, min(size, maxPage))
	if err != nil {
		return nil, statusOf(ctx, s.log, err)
	}
	res := &adminv1.ListDecisionsResponse{Decisions: page}
	if !done {
		if res.NextPageToken, err = next.token(req.GetFilter()); err != nil {
			return nil, statusOf(ctx, s.log, err)
		}
	}
	return res, nil
}

// FollowDecisions implements adminv1.DecisionsServer. The header is sent when
// nothing that is stored after it will be missed.
func (s *Decisions) FollowDecisions(req *adminv1.FollowDecisionsRequest, stream grpc.ServerStreamingServer[adminv1.FollowDecisionsResponse]) error {
	ctx := stream.Context()
	f, err := parseFilter(req.GetFilter())
	if err != nil {
		return statusOf(ctx, s.log, err)
	}
	f.start, f.end = time.Time{}, time.Time{}
	following := func() error { return stream.SendHeader(metadata.MD{}) }
	err = s.records.Follow(ctx, f.subject, following, func(b journal.Message) error {
		return sendMatching(stream, f, b)
	})
	return statusOf(ctx, s.log, err)
}

// sendMatching sends the records of a batch that a follower wants.
func sendMatching(stream grpc.ServerStreamingServer[adminv1.FollowDecisionsResponse], f filter, s journal.Message) error {
	b, err := decodeBatch(s)
	if err != nil {
		return err
	}
	for i, encoded := range b.GetRecords() {
		r := &decisionv1.Record{}
		if err := proto.Unmarshal(encoded, r); err != nil {
			return fmt.Errorf("decode record %d of batch %d: %w", i, s.Position, err)
		}
		if r.GetOutcome() == nil && !f.matches(r) {
			continue
		}
		if f.id != "" && r.GetOutcome() != nil && r.GetOutcome().GetDecision() != f.id {
			continue
		}
		if err := stream.Send(&adminv1.FollowDecisionsResponse{Record: r}); err != nil {
			return err
		}
	}
	return nil
}

// codeOf says what a domain error is on the wire.
var codeOf = []struct {
	err  error
	code codes.Code
}{
	{errForeign, codes.PermissionDenied},
	{errInvalid, codes.InvalidArgument},
	{errQuery, codes.InvalidArgument},
	{errGap, codes.FailedPrecondition},
	{errForked, codes.FailedPrecondition},
	{journal.ErrRaced, codes.Aborted},
	{journal.ErrBehind, codes.ResourceExhausted},
}

// statusOf makes an error for the wire. The text of one that the table does not
// name is logged and withheld.
func statusOf(ctx context.Context, log *slog.Logger, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if s, ok := status.FromError(err); ok { // Of the stream itself.
		return s.Err()
	}
	for _, c := range codeOf {
		if errors.Is(err, c.err) {
			return status.Error(c.code, err.Error())
		}
	}
	log.ErrorContext(ctx, "log failed", slog.Any("error", err))
	if errors.Is(err, journal.ErrOffline) {
		return status.Error(codes.Unavailable, "the log cannot be reached or written; try again later")
	}
	return status.Error(codes.Internal, "internal error; the control plane's log says more")
}
