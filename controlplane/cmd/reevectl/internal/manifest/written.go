package manifest

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// setByOthers are the fields that an administrator does not write: they are
// outputs, or are changed by methods of their own.
var setByOthers = map[protoreflect.Name]bool{
	"etag": true, "create_time": true, "update_time": true, "uid": true, "digest": true, "input_schema": true, "state": true,
}

// Written returns a copy of a resource with nothing but what an administrator
// writes.
func Written(m proto.Message) proto.Message {
	out := proto.Clone(m)
	r := out.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); setByOthers[f.Name()] {
			r.Clear(f)
		}
	}
	return out
}

// Name returns the resource name of a resource; empty if it has none.
func Name(m proto.Message) string {
	if named, ok := m.(interface{ GetName() string }); ok {
		return named.GetName()
	}
	return ""
}
