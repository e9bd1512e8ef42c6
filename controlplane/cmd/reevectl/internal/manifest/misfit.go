package manifest

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// misfit returns the first value of a mapping that its field cannot hold, with
// the field's path and what it can hold, or nil. It is asked when a message was
// refused, for the parser says neither.
func misfit(n *yaml.Node, d protoreflect.MessageDescriptor, path string) error {
	if n.Kind != yaml.MappingNode {
		return &lineError{n.Line, fmt.Sprintf("%s must have fields of its own: %s", path, fieldNames(d))}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		f := d.Fields().ByJSONName(key)
		if f == nil {
			f = d.Fields().ByTextName(key)
		}
		if f == nil || value.ShortTag() == "!!null" {
			continue
		}
		at := key
		if path != "" {
			at = path + "." + key
		}
		if err := misfitOf(value, f, at); err != nil {
			return err
		}
	}
	return nil
}

// misfitOf is misfit for the value of one field.
func misfitOf(n *yaml.Node, f protoreflect.FieldDescriptor, path string) error {
	switch {
	case f.IsMap() && n.Kind != yaml.MappingNode:
		return &lineError{n.Line, path + " must be pairs, such as {team: support}"}
	case f.IsMap():
		for i := 0; i+1 < len(n.Content); i += 2 {
			if err := misfitOne(n.Content[i+1], f.MapValue(), path+"."+n.Content[i].Value); err != nil {
				return err
			}
		}
		return nil
	case f.IsList() && n.Kind != yaml.SequenceNode:
		return &lineError{n.Line, path + ` must be a list: begin each item with "- "`}
	case f.IsList():
		for i, item := range n.Content {
			if err := misfitOne(item, f, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	default:
		return misfitOne(n, f, path)
	}
}

// misfitOne is misfit for one value, be it of a field, a list or a map.
func misfitOne(n *yaml.Node, f protoreflect.FieldDescriptor, path string) error {
	text := n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!str" || n.ShortTag() == "!!timestamp")
	switch {
	case f.Kind() == protoreflect.StringKind && n.Kind == yaml.ScalarNode && !text:
		return &lineError{n.Line, fmt.Sprintf("%s must be a quoted string: write %q", path, n.Value)}
	case f.Kind() == protoreflect.StringKind && !text:
		return &lineError{n.Line, path + " must be a string"}
	case f.Enum() != nil && (!text || f.Enum().Values().ByName(protoreflect.Name(n.Value)) == nil) && n.ShortTag() != "!!int":
		return &lineError{n.Line, fmt.Sprintf("%s: %q is not known: use %s", path, n.Value, words(f.Enum()))}
	case f.Message() == nil:
		return nil
	case f.Message().FullName() == "google.protobuf.Timestamp":
		if _, err := time.Parse(time.RFC3339, n.Value); err != nil || !text {
			return &lineError{n.Line, fmt.Sprintf("%s: %q is not an instant such as 2027-01-31T00:00:00Z", path, n.Value)}
		}
		return nil
	case f.Message().ParentFile().Package() == f.ParentFile().Package():
		return misfit(n, f.Message(), path)
	default:
		return nil
	}
}

// words lists what an enum can be.
func words(e protoreflect.EnumDescriptor) string {
	var all []string
	for i := range e.Values().Len() {
		if v := e.Values().Get(i); v.Number() != 0 { // which is unspecified
			all = append(all, string(v.Name()))
		}
	}
	return either(all)
}

func fieldNames(d protoreflect.MessageDescriptor) string {
	var all []string
	for i := range d.Fields().Len() {
		all = append(all, d.Fields().Get(i).JSONName())
	}
	return either(all)
}

func either(all []string) string {
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}
