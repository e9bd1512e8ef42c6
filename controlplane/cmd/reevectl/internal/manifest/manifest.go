// Package manifest reads and writes resources as files: YAML or JSON documents
// with a "kind" and, beside it, the resource in the JSON form of its message.
package manifest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// An Entry is one resource of a file.
type Entry struct {
	// Kind is the resource's kind.
	Kind kind.Kind
	// Message is the resource.
	Message proto.Message
	// Line is where it begins, from 1.
	Line int
}

// Read returns the resources of a file in its order. The file's name is for
// errors, which say the line. Documents may be single resources or lists of
// them; empty documents are passed over, unknown fields are refused.
func Read(name string, r io.Reader) ([]Entry, error) {
	var entries []Entry
	d := yaml.NewDecoder(r)
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
		}
		for _, node := range resources(&doc) {
			e, err := read(node)
			var at *lineError
			switch {
			case errors.As(err, &at):
				return nil, fmt.Errorf("%s:%d: %s", name, at.line, at.text)
			case err != nil:
				return nil, fmt.Errorf("%s:%d: %w", name, node.Line, err)
			}
			entries = append(entries, e)
		}
	}
}

// resources returns the mappings that a document holds.
func resources(doc *yaml.Node) []*yaml.Node {
	if len(doc.Content) == 0 {
		return nil
	}
	root := doc.Content[0]
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return nil
	case root.Kind == yaml.SequenceNode:
		return root.Content
	default:
		return []*yaml.Node{root}
	}
}

// lineError is an error that knows its line.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

func read(node *yaml.Node) (Entry, error) {
	if node.Kind != yaml.MappingNode {
		return Entry{}, errors.New(`not a resource: a resource begins with "kind:"`)
	}
	k, rest, err := takeKind(node)
	if err != nil {
		return Entry{}, err
	}
	var w jsonWriter
	if err := w.value(rest); err != nil {
		return Entry{}, err
	}
	m := k.New()
	if err := protojson.Unmarshal(w.buf.Bytes(), m); err != nil {
		if wrong := misfit(rest, m.ProtoReflect().Descriptor(), ""); wrong != nil {
			return Entry{}, wrong
		}
		return Entry{}, explain(err, m.ProtoReflect().Descriptor())
	}
	return Entry{Kind: k, Message: m, Line: node.Line}, nil
}

// takeKind returns the kind that a mapping names and the mapping without it.
func takeKind(node *yaml.Node) (kind.Kind, *yaml.Node, error) {
	rest := *node
	rest.Content = nil
	var found *yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value != "kind" {
			rest.Content = append(rest.Content, node.Content[i], node.Content[i+1])
			continue
		}
		if found != nil {
			return kind.Kind{}, nil, &lineError{node.Content[i].Line, `"kind" is given twice`}
		}
		found = node.Content[i+1]
	}
	if found == nil {
		return kind.Kind{}, nil, errors.New(`kind is missing: add a line such as "kind: Grant"`)
	}
	k, err := kind.ParseName(found.Value)
	if err != nil {
		return kind.Kind{}, nil, &lineError{found.Line, err.Error()}
	}
	return k, &rest, nil
}

var (
	protoError   = regexp.MustCompile(`^proto:[\s\x{a0}]*(?:syntax error )?(?:\(line (\d+):\d+\):\s*)?`)
	unknownField = regexp.MustCompile(`^unknown field "([^"]*)"`)
)

// explain takes the line out of what protojson says, which is the line in the
// file because jsonWriter keeps lines, and adds the field that was meant.
func explain(err error, d protoreflect.MessageDescriptor) error {
	text := err.Error()
	at := protoError.FindStringSubmatch(text)
	if at == nil {
		return err
	}
	text = strings.ReplaceAll(text[len(at[0]):], "\u00a0", " ")
	if f := unknownField.FindStringSubmatch(text); f != nil {
		known := map[string]bool{}
		fieldsOf(d, known)
		text = fmt.Sprintf("%s has no field %q", d.Name(), f[1])
		if meant, ok := schema.Near(f[1], maps.Keys(known)); ok {
			text += fmt.Sprintf(": did you mean %q?", meant)
		}
	}
	line, err := strconv.Atoi(at[1])
	if err != nil {
		return errors.New(text)
	}
	return &lineError{line, text}
}

// fieldsOf collects the JSON names of a message's fields and of those below.
func fieldsOf(d protoreflect.MessageDescriptor, known map[string]bool) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if known[f.JSONName()] {
			continue
		}
		known[f.JSONName()] = true
		if f.Message() != nil && f.Message().ParentFile().Package() == d.ParentFile().Package() {
			fieldsOf(f.Message(), known)
		}
	}
}
