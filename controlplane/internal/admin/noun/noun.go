// Package noun knows the resources that administrators read and write: their
// kinds, their names, and the fields that all of them have.
package noun

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// Resource is a message that administrators write.
type Resource interface {
	proto.Message
	GetName() string
	GetEtag() string
}

// Label names a resource in errors: grant "namespaces/default/grants/refund".
func Label(m Resource) string {
	return fmt.Sprintf("%s %q", KindOf(m), m.GetName())
}

// KindOf is the word for a resource's kind.
func KindOf(m proto.Message) string {
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
	case *grantv1.Session:
		return "session"
	case *grantv1.FleetState:
		return "fleet"
	case *adminv1.Admin:
		return "administrator"
	default:
		return "resource"
	}
}

// CollectionOf is the collection of a resource's kind.
func CollectionOf(m Resource) grant.Collection { return grant.Collection(KindOf(m) + "s") }

// NameOf takes the name of a resource of m's kind apart.
func NameOf(m Resource, name string) (grant.Name, error) {
	n, err := grant.ParseName(name)
	if err != nil || n.Collection != CollectionOf(m) {
		form := grant.Name{
			Collection: CollectionOf(m), Namespace: "{namespace}", Server: "{server}", Agent: "{agent}", ID: "{" + KindOf(m) + "}",
		}
		return grant.Name{}, refusal.Invalid("name: %q names no %s: write %s", name, KindOf(m), form)
	}
	return n, nil
}

// Stored returns a copy of what is stored, with the fields that follow from
// where it is stored.
func Stored[T Resource](r store.Resource) (T, error) {
	m, ok := r.Message.(T)
	if !ok {
		return m, fmt.Errorf("%s is stored as a %T", r.Name, r.Message)
	}
	m = proto.CloneOf(m)
	SetEtag(m, r.Revision)
	return m, nil
}

// SetEtag sets the etag that goes with a store revision; 0 unsets it.
func SetEtag(m Resource, revision int64) {
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

// Stamp sets a time that every kind of resource has.
func Stamp(m proto.Message, field protoreflect.Name, t time.Time) {
	set(m, field, protoreflect.ValueOfMessage(timestamppb.New(t).ProtoReflect()))
}

// TargetOf returns the field of a target that is set, and what it says.
func TargetOf(t *grantv1.Target) (field, text string) {
	switch t := t.GetTarget().(type) {
	case *grantv1.Target_Tool:
		return "tool", t.Tool
	case *grantv1.Target_Resource:
		return "resource", t.Resource
	case *grantv1.Target_Prompt:
		return "prompt", t.Prompt
	case *grantv1.Target_Method:
		return "method", t.Method
	default:
		return "target", ""
	}
}
