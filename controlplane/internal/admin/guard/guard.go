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

	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
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

	admin *adminv1.Admin
	scope scope
}

// As returns the caller with the role and the bindings of an administrator as
// the store has it now. ok is false if that is another incarnation, or may not
// do any more what it was admitted to.
func (c Caller) As(admin *adminv1.Admin) (now Caller, ok bool) {
	if c.UID == "" || admin.GetUid() != c.UID {
		return Caller{}, false
	}
	c.admin = admin
	_, _, ok = lacking(admin, c.Method, c.scope)
	return c, ok
}

// Sees reports whether the caller may do in a namespace, namespaces/{namespace},
// what it called for; "" is everywhere.
func (c Caller) Sees(namespace string) bool {
	return held(c.admin, rules[c.Method].roles, namespace)
}

// Needs returns an error that says which role the caller needs, and where, if it
// may not do something in a namespace: call a method, Write, Accept or Lift.
func (c Caller) Needs(what, namespace string) error {
	need, _, ok := lacking(c.admin, what, scope{namespaces: []string{namespace}})
	if ok {
		return nil
	}
	if rules[what].where == everywhere {
		namespace = ""
	}
	return refusal.Denied("%s", denial(c.Name, what, need, namespace))
}

// denial says which role is needed, and where.
func denial(name, what string, need roles, namespace string) string {
	if strings.HasPrefix(what, "/") {
		what = "call " + word(what)
	}
	if namespace == "" {
		return fmt.Sprintf("%s may not %s: that needs the role of %s everywhere: ask an owner", name, what, need)
	}
	return fmt.Sprintf("%s may not %s in %s: that needs the role of %s there or everywhere: ask an owner", name, what, namespace, need)
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
	caller, err := g.admit(ctx, info.FullMethod)
	if err == nil {
		caller, err = g.check(ctx, caller, req)
	}
	if err != nil {
		return nil, err
	}
	ctx = withCaller(ctx, caller)
	resp, err := handle(ctx, req)
	if err != nil {
		return nil, g.refuse(ctx, err)
	}
	if !rules[info.FullMethod].roles.has(adminv1.Admin_AUDITOR) {
		g.log.InfoContext(ctx, "administered",
			slog.String("method", info.FullMethod), slog.String("actor", caller.ID))
	}
	return resp, nil
}

// Stream guards streaming methods, whose callers ask once.
func (g *Guard) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	caller, err := g.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx := withCaller(stream.Context(), caller)
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
	caller, err := s.guard.check(s.ctx, CallerFrom(s.ctx), m)
	s.ctx = withCaller(s.ctx, caller)
	return err
}

// SendMsg ends the stream of a caller who was removed, or may not any more,
// since it was opened.
func (s *guarded) SendMsg(m any) error {
	c := CallerFrom(s.ctx)
	if _, ok := c.As(s.guard.find(c.Name)); !ok {
		return status.Errorf(codes.PermissionDenied, "%s may not call %s any more", c.ID, word(c.Method))
	}
	return s.ServerStream.SendMsg(m)
}

// admit finds out who calls.
func (g *Guard) admit(ctx context.Context, method string) (Caller, error) {
	peer, err := identity.PeerFromContext(ctx)
	if err != nil {
		return Caller{}, status.Error(codes.Unauthenticated, "a client certificate of this trust domain is required: choose a context with one")
	}
	admin := g.find(peer.Name)
	c := Caller{Name: peer.Name, ID: peer.ID.String(), UID: peer.UID, Method: method, admin: admin}
	if peer.Kind != identity.Admin || admin.GetUid() == "" || admin.GetUid() != peer.UID {
		return Caller{}, g.deny(ctx, c, status.Errorf(codes.PermissionDenied, "%s is not an administrator, or not any more: "+
			"ask an owner to run reevectl admin create", peer.ID))
	}
	return c, nil
}

// check finds out whether the caller may call the method for what a request is
// about, and then whether the request keeps to the contract.
func (g *Guard) check(ctx context.Context, c Caller, req any) (Caller, error) {
	m, ok := req.(proto.Message)
	if !ok {
		return Caller{}, status.Error(codes.Internal, "the request is not a message")
	}
	c.scope = scopeOf(m)
	if need, namespace, ok := lacking(c.admin, c.Method, c.scope); !ok {
		return Caller{}, g.deny(ctx, c, status.Error(codes.PermissionDenied, denial(c.Name, c.Method, need, namespace)))
	}
	return c, g.valid(m)
}

// deny notes that somebody was refused.
func (g *Guard) deny(ctx context.Context, c Caller, err error) error {
	g.log.WarnContext(ctx, "administration refused", slog.String("actor", c.ID), slog.String("method", c.Method))
	return err
}

// word is a method's own name.
func word(method string) string { return method[strings.LastIndex(method, "/")+1:] }

// valid validates a request against the constraints of the contract. The
// resource in an update with a mask is not whole: it is validated when it has
// been merged.
func (g *Guard) valid(m proto.Message) error {
	var opts []protovalidate.ValidationOption
	if u, ok := m.(interface{ GetUpdateMask() *fieldmaskpb.FieldMask }); ok && len(u.GetUpdateMask().GetPaths()) > 0 {
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
