package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

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
	return escape(b.Bytes()), nil
}

// escape writes what cannot be printed as JSON escapes. In compact JSON it can
// only be inside of strings. YAML could not read some of it, and a terminal
// would obey some of it.
func escape(text []byte) []byte {
	var b []byte
	for _, r := range string(text) {
		if unicode.IsPrint(r) || r > 0xffff { // beyond are no controls, and YAML knows no surrogates
			b = utf8.AppendRune(b, r)
		} else {
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}

// YAML returns messages as YAML documents, in their order. What it returns for
// resources, Read reads back.
func YAML(ms ...proto.Message) ([]byte, error) {
	var texts []json.RawMessage
	for _, m := range ms {
		text, err := JSON(m)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return ToYAML(texts...)
}

// ToYAML returns JSON documents as YAML documents, their members in their order.
func ToYAML[T ~[]byte](texts ...T) ([]byte, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	for _, text := range texts {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		doc, err := node(d)
		if err != nil {
			return nil, fmt.Errorf("encode YAML: %w", err)
		}
		if err := e.Encode(doc); err != nil {
			return nil, fmt.Errorf("encode YAML: %w", err)
		}
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	return b.Bytes(), nil
}

// node reads the next JSON value as YAML, its members in their order.
func node(d *json.Decoder) (*yaml.Node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(tag, text string) (*yaml.Node, error) {
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}
		if strings.Contains(text, "\n") {
			n.Style = yaml.LiteralStyle
		}
		return n, nil
	}
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if v == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for d.More() { // a mapping's content is key, value, key, value
			item, err := node(d)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
		_, err := d.Token()
		return n, err
	case string:
		return scalar("!!str", v)
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return scalar("!!int", v.String())
		}
		return scalar("!!float", v.String())
	case bool:
		return scalar("!!bool", strconv.FormatBool(v))
	default:
		return scalar("!!null", "null")
	}
}
