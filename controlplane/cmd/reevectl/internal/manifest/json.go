package manifest

import (
	"bytes"
	"encoding/json"
	"math"

	"go.yaml.in/yaml/v3"
)

// jsonWriter writes YAML nodes as JSON with every token on the line that the
// node is on, so that a JSON parser's line numbers are the file's.
type jsonWriter struct {
	buf  bytes.Buffer
	line int
}

func (w *jsonWriter) value(n *yaml.Node) error {
	w.reach(n.Line)
	switch n.Kind {
	case yaml.MappingNode:
		w.buf.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				w.buf.WriteByte(',')
			}
			w.reach(n.Content[i].Line)
			if n.Content[i].Kind != yaml.ScalarNode {
				return &lineError{n.Content[i].Line, "a key must be a word"}
			}
			w.buf.WriteString(quote(n.Content[i].Value) + ":")
			if err := w.value(n.Content[i+1]); err != nil {
				return err
			}
		}
		w.buf.WriteByte('}')
		return nil
	case yaml.SequenceNode:
		w.buf.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				w.buf.WriteByte(',')
			}
			if err := w.value(item); err != nil {
				return err
			}
		}
		w.buf.WriteByte(']')
		return nil
	case yaml.ScalarNode:
		text, err := scalar(n)
		w.buf.WriteString(text)
		return err
	default:
		return &lineError{n.Line, "anchors and aliases are not read: write the value out"}
	}
}

func (w *jsonWriter) reach(line int) {
	for w.line = max(w.line, 1); w.line < line; w.line++ {
		w.buf.WriteByte('\n')
	}
}

// scalar returns a scalar in JSON. Timestamps stay the text that they are, for
// that is what the JSON form of a message has.
func scalar(n *yaml.Node) (string, error) {
	var v any = n.Value
	switch n.ShortTag() {
	case "!!str", "!!timestamp", "!!merge": // nothing is merged: it is the text <<
	case "!!null", "!!bool", "!!int", "!!float":
		if err := n.Decode(&v); err != nil {
			return "", &lineError{n.Line, err.Error()}
		}
		if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			return "", &lineError{n.Line, n.Value + " is not a number here"}
		}
	default:
		return "", &lineError{n.Line, "a value of type " + n.ShortTag() + " is not read here"}
	}
	text, err := json.Marshal(v)
	return string(text), err
}

func quote(s string) string {
	text, _ := json.Marshal(s) // a string always has a JSON form
	return string(text)
}
