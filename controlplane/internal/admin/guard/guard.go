// Package guard stands before the administrative services: it knows the caller
// by the certificate of the connection, refuses what the caller's role does not
// cover and what breaks the contract, and turns errors into statuses.
package guard

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// Caller is an administrator whom a connection's certificate names and the
// store knows.
type Caller struct {
	// Name is the resource name, admins/{admin}.
	Name string
	// ID is the SPIFFE ID, as change records have it.
	ID string
	// UID is the incarnation that the certificate carries.
	UID string
	// Method is the full name of the method that was called.
	Method string
}

type callerKey struct{}

// withCaller returns a context that carries a caller.
func withCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller that Guard found. Without one it returns the
// zero Caller, whom no transaction admits.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// Guard holds the interceptors. Safe for concurrent use.
type Guard struct {
	find     func(name string) *adminv1.Admin
	validate protovalidate.Validator
	statusOf func(error) *status.Status
	log      *slog.Logger
}

// New returns a guard. find returns the administrator of a resource name as
// this control plane knows it, or nil; statusOf returns what callers are told of
// an error. Both must be safe for concurrent use.
func New(
	find func(name string) *adminv1.Admin, validate protovalidate.Validator,
	statusOf func(error) *status.Status, log *slog.Logger,
) *Guard {
	return &Guard{find: find, validate: validate, statusOf: statusOf, log: log}
}

// Unary guards unary methods.
func (g *Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if err := g.check(req); err != nil {
		return nil, err
	}
	resp, err := handle(ctx, req)
	if err != nil {
		return nil, g.refuse(ctx, err)
	}
	if roleOf[info.FullMethod] == owner {
		g.log.InfoContext(ctx, "administered",
			slog.String("method", info.FullMethod), slog.String("actor", CallerFrom(ctx).ID))
	}
	return resp, nil
}

// Stream guards streaming methods.
func (g *Guard) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, err := g.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return g.refuse(ctx, handle(srv, &guarded{ServerStream: stream, ctx: ctx, guard: g}))
}

// guarded is a stream whose caller is known and whose requests are checked.
type guarded struct {
	grpc.ServerStream
	ctx   context.Context //nolint:containedctx // grpc.ServerStream hands its context out by a method
	guard *Guard
}

func (s *guarded) Context() context.Context { return s.ctx }

func (s *guarded) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.guard.check(m)
}

// SendMsg ends the stream of a caller who was removed since it was opened.
func (s *guarded) SendMsg(m any) error {
	c := CallerFrom(s.ctx)
	if admin := s.guard.find(c.Name); admin.GetUid() != c.UID || !May(admin.GetRole(), c.Method) {
		return status.Errorf(codes.PermissionDenied, "%s may not call %s any more", c.ID, word(c.Method))
	}
	return s.ServerStream.SendMsg(m)
}

// admit finds out who calls and whether they may.
func (g *Guard) admit(ctx context.Context, method string) (context.Context, error) {
	peer, err := identity.PeerFromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, "a client certificate of this trust domain is required: choose a context with one")
	}
	admin := g.find(peer.Name)
	if peer.Kind != identity.Admin || admin.GetUid() == "" || admin.GetUid() != peer.UID {
		g.log.WarnContext(ctx, "administration refused",
			slog.String("actor", peer.ID.String()), slog.String("method", method))
		return nil, status.Errorf(codes.PermissionDenied, "%s is not an administrator, or not any more: "+
			"ask an owner to run reevectl admin create", peer.ID)
	}
	if !May(admin.GetRole(), method) {
		g.log.WarnContext(ctx, "administration refused",
			slog.String("actor", peer.ID.String()), slog.String("method", method))
		return nil, status.Errorf(codes.PermissionDenied, "%s is a %s and may not call %s: ask an owner",
			peer.Name, strings.ToLower(admin.GetRole().String()), word(method))
	}
	return withCaller(ctx, Caller{Name: peer.Name, ID: peer.ID.String(), UID: peer.UID, Method: method}), nil
}

// word is a method's own name.
func word(method string) string { return method[strings.LastIndex(method, "/")+1:] }

// check validates a request against the constraints of the contract. The
// resource in an update with a mask is not whole: it is validated when it has
// been merged.
func (g *Guard) check(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return status.Error(codes.Internal, "the request is not a message")
	}
	var opts []protovalidate.ValidationOption
	if u, ok := req.(interface{ GetUpdateMask() *fieldmaskpb.FieldMask }); ok && len(u.GetUpdateMask().GetPaths()) > 0 {
		opts = append(opts, protovalidate.WithFilter(outsideResource))
	}
	if err := g.validate.Validate(m, opts...); err != nil {
		return Invalid(m, err)
	}
	return nil
}

// outsideResource keeps validation out of resources and what is in them.
var outsideResource = protovalidate.FilterFunc(func(m protoreflect.Message, _ protoreflect.Descriptor) bool {
	return m.Descriptor().ParentFile().Package() != "reeve.grant.v1"
})

// refuse turns an error into a status, and notes what the caller is not told.
func (g *Guard) refuse(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s := g.statusOf(err)
	if s.Code() == codes.Internal {
		g.log.ErrorContext(ctx, "administration failed",
			slog.String("method", CallerFrom(ctx).Method), slog.String("error", fmt.Sprint(err)))
	}
	return s.Err()
}
