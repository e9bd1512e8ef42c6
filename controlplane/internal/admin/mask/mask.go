// Package mask applies an update to a stored message: which fields change, and
// which are the control plane's own.
package mask

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Merge sets the fields of stored that paths name to what they are in given,
// unset if they are unset there. No paths, or "*" alone, are all fields. Fields
// named by fixed are not the caller's: without a mask they stay as they are
// stored, and a mask must not name them.
//
// A path is a field's proto name, or several joined by dots for a field of a
// message within. The messages must be of one type. given is not changed, and
// stored shares nothing with it afterwards.
func Merge(stored, given proto.Message, paths, fixed []string) error {
	from := proto.Clone(given).ProtoReflect()
	to := stored.ProtoReflect()
	if len(paths) == 0 || slices.Equal(paths, []string{"*"}) {
		fields := to.Descriptor().Fields()
		for i := range fields.Len() {
			if f := fields.Get(i); !slices.Contains(fixed, string(f.Name())) {
				copyField(to, from, f)
			}
		}
		return nil
	}
	for _, path := range paths {
		first, _, _ := strings.Cut(path, ".")
		if slices.Contains(fixed, first) {
			return fmt.Errorf("update_mask: %s is not changed by an update: leave it out", path)
		}
		if err := mergePath(to, from, path); err != nil {
			return err
		}
	}
	return nil
}

func mergePath(to, from protoreflect.Message, path string) error {
	rest := path
	for {
		name, below, more := strings.Cut(rest, ".")
		f := to.Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil {
			return fmt.Errorf("update_mask: %s has no field %q: paths are proto names, such as %s",
				to.Descriptor().Name(), path, to.Descriptor().Fields().Get(to.Descriptor().Fields().Len()-1).Name())
		}
		if !more {
			copyField(to, from, f)
			return nil
		}
		if f.Message() == nil || f.IsList() || f.IsMap() {
			return fmt.Errorf("update_mask: %q goes into %s, which is changed as a whole: name %s", path, name,
				strings.TrimSuffix(path, "."+below))
		}
		if !from.Has(f) && !to.Has(f) {
			return nil
		}
		to, from, rest = to.Mutable(f).Message(), from.Get(f).Message(), below
	}
}

func copyField(to, from protoreflect.Message, f protoreflect.FieldDescriptor) {
	switch {
	case from.Has(f):
		to.Set(f, from.Get(f))
	default:
		to.Clear(f)
	}
}
