package claims

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
)

// What is refused. A sidecar learns nothing of what is another agent's: that is
// not there.
var (
	errNoAgent    = errors.New("only an agent's SVID may ask")
	errInvalid    = errors.New("the request breaks the contract")
	errNotActive  = errors.New("the agent is suspended, retired or another one than the certificate was issued for")
	errNoSession  = errors.New("the agent has no such session, or it is over")
	errClaimed    = errors.New("another sidecar has claimed the session")
	errTooMany    = fmt.Errorf("the agent has opened %d sessions that are not over: end some first", maxOpened)
	errNoGrant    = errors.New("no such grant covers the agent")
	errNotShared  = errors.New("the grant has no calls that sidecars share")
	errOverloaded = errors.New("too many requests of this agent: try again in a moment")
)

// codeOf says how an error is answered. reason is for programs.
var codeOf = []struct {
	err    error
	code   codes.Code
	reason string
}{
	{errNoAgent, codes.Unauthenticated, "NO_AGENT"},
	{errInvalid, codes.InvalidArgument, "INVALID_REQUEST"},
	{errNotActive, codes.PermissionDenied, "AGENT_NOT_ACTIVE"},
	{errNoSession, codes.NotFound, "NO_SESSION"},
	{errClaimed, codes.FailedPrecondition, "SESSION_CLAIMED"},
	{errTooMany, codes.ResourceExhausted, "TOO_MANY_SESSIONS"},
	{errNoGrant, codes.NotFound, "NO_GRANT"},
	{errNotShared, codes.FailedPrecondition, "NOT_SHARED"},
	{errOverloaded, codes.ResourceExhausted, "OVERLOADED"},
	{store.ErrConflict, codes.Aborted, "CONFLICT"},
	{store.ErrOffline, codes.Unavailable, "STORE_OFFLINE"},
	{context.Canceled, codes.Canceled, "CANCELED"},
	{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
}

// statusOf turns an error into what the caller is told. What the table does not
// name stays here, in the log.
func (s *Server) statusOf(ctx context.Context, c caller, err error) error {
	if err == nil {
		return nil
	}
	for _, row := range codeOf {
		if !errors.Is(err, row.err) {
			continue
		}
		said := row.err.Error()
		if row.code == codes.InvalidArgument {
			said = err.Error() // what is wrong with it
		}
		answer := status.New(row.code, said)
		if with, err := answer.WithDetails(&errdetails.ErrorInfo{Reason: row.reason, Domain: "claims.reeve"}); err == nil {
			answer = with
		}
		if row.code != codes.Canceled {
			s.log.InfoContext(ctx, "claim refused", slog.String("agent", c.name), slog.String("method", c.method),
				slog.String("reason", row.reason), slog.Any("error", err))
		}
		return answer.Err()
	}
	s.log.ErrorContext(ctx, "claim failed", slog.String("agent", c.name), slog.String("method", c.method), slog.Any("error", err))
	return status.Error(codes.Internal, "the control plane could not do this; its log says why")
}

func newCounter(meter metric.Meter) (metric.Int64Counter, error) {
	if meter == nil {
		meter = noop.Meter{}
	}
	c, err := meter.Int64Counter("reeve.claims.requests", metric.WithUnit("{request}"),
		metric.WithDescription("Requests of sidecars for sessions and blocks of calls, by method and code."))
	if err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	return c, nil
}

// count counts a request and how it was answered.
func count(ctx context.Context, requests metric.Int64Counter, method string, err error) {
	requests.Add(ctx, 1, metric.WithAttributes(
		attribute.String("method", method[strings.LastIndex(method, "/")+1:]),
		attribute.String("code", status.Code(err).String()),
	))
}
