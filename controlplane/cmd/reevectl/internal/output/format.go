package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
)

// Format is how to print.
type Format string

// The formats.
const (
	AsTable Format = "table"
	AsWide  Format = "wide" // a table with what has no room in one
	AsJSON  Format = "json"
	AsYAML  Format = "yaml"
	AsName  Format = "name" // resource names alone
)

// Formats returns the words for the formats.
func Formats() []string {
	return []string{string(AsTable), string(AsWide), string(AsJSON), string(AsYAML), string(AsName)}
}

// Machine reports whether the format is for programs.
func (f Format) Machine() bool { return f.Full() || f == AsName }

// Full reports whether the format is for programs, with nothing left out.
func (f Format) Full() bool { return f == AsJSON || f == AsYAML }

// String implements pflag.Value.
func (f *Format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *Format) Type() string { return "format" }

// Set implements pflag.Value.
func (f *Format) Set(word string) error {
	for _, known := range Formats() {
		if word == known {
			*f = Format(word)
			return nil
		}
	}
	return fmt.Errorf("use one of %s", strings.Join(Formats(), ", "))
}

// errNoName is about what has no resource name.
var errNoName = errors.New("what this prints has no resource name: use -o json")

// Names prints the resource names of messages, a line each.
func Names(w io.Writer, ms ...proto.Message) error {
	for _, m := range ms {
		named, ok := m.(interface{ GetName() string })
		if !ok {
			return errNoName
		}
		if _, err := fmt.Fprintln(w, Visible(named.GetName())); err != nil {
			return err
		}
	}
	return nil
}

// Document prints a document, given as JSON, as JSON or YAML.
func Document(w io.Writer, f Format, text []byte) error {
	if f == AsName {
		return errNoName
	}
	if f != AsYAML {
		return indent(w, text)
	}
	text, err := manifest.ToYAML(text)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// One prints a message as JSON or YAML.
func One(w io.Writer, f Format, m proto.Message) error {
	if f == AsName {
		return Names(w, m)
	}
	if f == AsYAML {
		return yaml(w, m)
	}
	text, err := manifest.JSON(m)
	if err != nil {
		return err
	}
	return indent(w, text)
}

// List prints messages as a JSON array or as YAML documents.
func List[M proto.Message](w io.Writer, f Format, ms []M) error {
	all := make([]proto.Message, len(ms))
	for i, m := range ms {
		all[i] = m
	}
	if f == AsName {
		return Names(w, all...)
	}
	if f == AsYAML {
		return yaml(w, all...)
	}
	texts := make([]json.RawMessage, len(all))
	for i, m := range all {
		var err error
		if texts[i], err = manifest.JSON(m); err != nil {
			return err
		}
	}
	text, err := json.Marshal(texts)
	if err != nil {
		return fmt.Errorf("encode list: %w", err)
	}
	return indent(w, text)
}

// Line prints a message as one line of JSON, or as one YAML document, in a
// stream of them.
func Line(w io.Writer, f Format, m proto.Message) error {
	if f == AsName {
		return errNoName
	}
	if f == AsYAML {
		if _, err := io.WriteString(w, "---\n"); err != nil {
			return err
		}
		return yaml(w, m)
	}
	text, err := manifest.JSON(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func yaml(w io.Writer, ms ...proto.Message) error {
	text, err := manifest.YAML(ms...)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func indent(w io.Writer, text []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}
