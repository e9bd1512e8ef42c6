package admin

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// resource is a message that administrators write.
type resource interface {
	proto.Message
	GetName() string
	GetEtag() string
}

// label names a resource in errors: grant "namespaces/default/grants/refund".
func label(m resource) string {
	return fmt.Sprintf("%s %q", kindOf(m), m.GetName())
}

// kindOf is the word for a resource's kind.
func kindOf(m proto.Message) string {
	switch m.(type) {
	case *grantv1.Namespace:
		return "namespace"
	case *grantv1.Agent:
		return "agent"
	case *grantv1.Server:
		return "server"
	case *grantv1.Tool:
		return "tool"
	case *grantv1.Grant:
		return "grant"
	case *grantv1.FleetState:
		return "fleet"
	case *adminv1.Admin:
		return "administrator"
	default:
		return "resource"
	}
}

// collectionOf is the collection of a resource's kind.
func collectionOf(m resource) grant.Collection { return grant.Collection(kindOf(m) + "s") }

// nameOf takes the name of a resource of m's kind apart.
func nameOf(m resource, name string) (grant.Name, error) {
	n, err := grant.ParseName(name)
	if err != nil || n.Collection != collectionOf(m) {
		form := grant.Name{Collection: collectionOf(m), Namespace: "{namespace}", Server: "{server}", ID: "{" + kindOf(m) + "}"}
		return grant.Name{}, invalid("name: %q names no %s: write %s", name, kindOf(m), form)
	}
	return n, nil
}

// stored returns a copy of what is stored, with the fields that follow from
// where it is stored.
func stored[T resource](r store.Resource) (T, error) {
	m, ok := r.Message.(T)
	if !ok {
		return m, fmt.Errorf("%s is stored as a %T", r.Name, r.Message)
	}
	m = proto.CloneOf(m)
	setEtag(m, r.Revision)
	return m, nil
}

func setEtag(m resource, revision int64) {
	etag := ""
	if revision > 0 {
		etag = strconv.FormatInt(revision, 10)
	}
	set(m, "etag", protoreflect.ValueOfString(etag))
}

// set sets a field that every kind of resource has, or does nothing if this one
// does not.
func set(m proto.Message, field protoreflect.Name, v protoreflect.Value) {
	if fd := m.ProtoReflect().Descriptor().Fields().ByName(field); fd != nil {
		m.ProtoReflect().Set(fd, v)
	}
}

// stamp sets a time that every kind of resource has.
func stamp(m proto.Message, field protoreflect.Name, t time.Time) {
	set(m, field, protoreflect.ValueOfMessage(timestamppb.New(t).ProtoReflect()))
}
