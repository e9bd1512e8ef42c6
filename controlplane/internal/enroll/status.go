package enroll

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// What is refused, in words for whoever starts the sidecar. Each is one class:
// a stranger learns nothing from which of its cases it was.
var (
	errRefused     = errors.New("the join token is unknown, has ended, or is for an agent that was made anew: create another with: reevectl token create AGENT")
	errTokenUsed   = errors.New("the join token was already used for another key, so the agent has been suspended: find out who has it, then: reevectl agent resume AGENT, and create another with: reevectl token create AGENT")
	errOthersKey   = errors.New("this sidecar's key is enrolled for another agent: start it with an empty state directory")
	errNotActive   = errors.New("the agent is suspended or retired: an owner can end a suspension with: reevectl agent resume AGENT")
	errNotEnrolled = errors.New("this sidecar's key is not enrolled, or was for an agent that was made anew: start it with a new join token from: reevectl token create AGENT")
	errOverloaded  = errors.New("too many requests from this address: try again in a moment")
)

// codeOf says how an error is answered. reason is for programs; an error with
// none is answered with its own text only.
var codeOf = []struct {
	err    error
	code   codes.Code
	reason string
}{
	{errRefused, codes.PermissionDenied, "TOKEN_REFUSED"},
	{errTokenUsed, codes.PermissionDenied, "TOKEN_USED"},
	{errOthersKey, codes.PermissionDenied, "KEY_IN_USE"},
	{errNotActive, codes.PermissionDenied, "AGENT_NOT_ACTIVE"},
	{errNotEnrolled, codes.PermissionDenied, "KEY_NOT_ENROLLED"},
	{errOverloaded, codes.ResourceExhausted, "OVERLOADED"},
	{identity.ErrInvalidRequest, codes.InvalidArgument, "INVALID_REQUEST"},
	{store.ErrConflict, codes.Aborted, "CONFLICT"},
	{store.ErrOffline, codes.Unavailable, "STORE_OFFLINE"},
	{context.Canceled, codes.Canceled, "CANCELED"},
	{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
}

// statusOf turns an error into what the caller is told. What the table does not
// name stays here, in the log.
func (s *Server) statusOf(ctx context.Context, err error) error {
	for _, c := range codeOf {
		if !errors.Is(err, c.err) {
			continue
		}
		answer := status.New(c.code, c.err.Error())
		if with, err := answer.WithDetails(&errdetails.ErrorInfo{Reason: c.reason, Domain: "enroll.reeve"}); err == nil {
			answer = with
		}
		if c.code != codes.Canceled {
			s.log.WarnContext(ctx, "enrolment refused", slog.String("reason", c.reason), slog.Any("error", err))
		}
		return answer.Err()
	}
	s.log.ErrorContext(ctx, "enrolment failed", slog.Any("error", err))
	return status.Error(codes.Internal, "the control plane could not do this; its log says why")
}
