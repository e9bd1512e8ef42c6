package guard

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

// scope is what a request is about.
type scope struct {
	// namespaces are those that it names, namespaces/{namespace}, each once.
	namespaces []string
	// wide says that it names none, or all of them, or something outside.
	wide bool
}

// naming are the fields of requests that hold resource names. An id beside a
// name is of the same namespace, and no name of its own.
var naming = []protoreflect.Name{"name", "names", "parent", "agent", "session"}

// scopeOf finds what a request is about: by its names, those of the resources
// in it, and that of its filter.
func scopeOf(req proto.Message) scope {
	var s scope
	s.visit(req.ProtoReflect())
	if len(s.namespaces) == 0 {
		s.wide = true
	}
	return s
}

func (s *scope) visit(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() == protoreflect.StringKind && slices.Contains(naming, f.Name()):
			s.note(f, v)
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				s.within(v.List().Get(i).Message())
			}
		default:
			s.within(v.Message())
		}
		return true
	})
}

// within visits a message of a request: all that a resource says of itself is
// its name, for what it refers to is of its own namespace.
func (s *scope) within(m protoreflect.Message) {
	switch name := m.Descriptor().Fields().ByName("name"); {
	case labelOf(m) != "":
		s.add(m.Get(name).String())
	case m.Descriptor().ParentFile().Package() == "reeve.admin.v1":
		s.visit(m)
	}
}

func (s *scope) note(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	if f.IsList() {
		for i := range v.List().Len() {
			s.add(v.List().Get(i).String())
		}
		return
	}
	// An agent beside a parent is an id, which the parent's namespace holds.
	if f.Name() == "agent" && !strings.Contains(v.String(), "/") && f.ContainingMessage().Fields().ByName("parent") != nil {
		return
	}
	s.add(v.String())
}

// add notes a resource name.
func (s *scope) add(name string) {
	rest, ok := strings.CutPrefix(name, "namespaces/")
	id, _, _ := strings.Cut(rest, "/")
	namespace := "namespaces/" + id
	if _, err := grant.ParseName(namespace); !ok || err != nil {
		s.wide = true
		return
	}
	if !slices.Contains(s.namespaces, namespace) {
		s.namespaces = append(s.namespaces, namespace)
	}
}
