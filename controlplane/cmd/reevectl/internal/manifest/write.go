package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
)

// JSON returns a message in its JSON form, compact and always the same for the
// same message. A resource has its kind in front.
func JSON(m proto.Message) (json.RawMessage, error) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	if k, err := kind.Of(m); err == nil {
		comma := ","
		if string(text) == "{}" {
			comma = ""
		}
		text = append([]byte(`{"kind":`+quote(k.Name)+comma), text[1:]...)
	}
	// protojson varies its spaces on purpose.
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b.Bytes(), nil
}

// YAML returns messages as YAML documents, in their order. What it returns for
// resources, Read reads back.
func YAML(ms ...proto.Message) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	for _, m := range ms {
		text, err := JSON(m)
		if err != nil {
			return nil, err
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil {
			return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
		}
		restyle(&doc)
		if err := e.Encode(&doc); err != nil {
			return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
		}
	}
	if len(ms) == 0 {
		return nil, nil
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b.Bytes(), nil
}

// restyle takes the look of JSON off a document.
func restyle(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "\n") {
		n.Style = yaml.LiteralStyle
	}
	for _, c := range n.Content {
		restyle(c)
	}
}
