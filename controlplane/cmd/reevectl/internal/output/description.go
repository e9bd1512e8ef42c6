package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
)

// A Description is all that is to be said of one thing: fields, then sections.
// The zero Description is empty.
type Description struct {
	fields   [][2]string
	sections []section
	members  []member
}

type section struct {
	title, none string
	table       *Table
}

type member struct {
	key   string
	value any
}

// Field adds a field, unless it is empty.
func (d *Description) Field(key, value string) {
	if value != "" {
		d.fields = append(d.fields, [2]string{key, value})
	}
}

// Section adds a table under a title, or what is said if it has no rows.
func (d *Description) Section(title string, t *Table, none string) {
	d.sections = append(d.sections, section{title, none, t})
}

// Member adds a value to the description that programs read: what JSON can say,
// with messages in their JSON form.
func (d *Description) Member(key string, value any) {
	d.members = append(d.members, member{key, value})
}

// Members returns messages as a value of a member.
func Members[M proto.Message](ms []M) ([]json.RawMessage, error) {
	all := make([]json.RawMessage, 0, len(ms))
	for _, m := range ms {
		text, err := manifest.JSON(m)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, nil
}

// Print prints the description, no wider than a width; 0 is no limit.
func (d *Description) Print(w io.Writer, f Format, width int) error {
	if !f.Machine() {
		return d.text(w, width)
	}
	text, err := d.JSON()
	if err != nil {
		return err
	}
	return Document(w, f, text)
}

// JSON returns what programs read, its members in their order.
func (d *Description) JSON() ([]byte, error) {
	var parts []string
	for _, m := range d.members {
		text, err := json.Marshal(m.value)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", m.key, err)
		}
		key, _ := json.Marshal(m.key) // a string always has a JSON form
		parts = append(parts, string(key)+":"+string(text))
	}
	return []byte("{" + strings.Join(parts, ",") + "}"), nil
}

func (d *Description) text(w io.Writer, width int) error {
	indent := 0
	for _, f := range d.fields {
		indent = max(indent, utf8.RuneCountInString(f[0])+1+len(gap))
	}
	var b strings.Builder
	for _, f := range d.fields {
		label := f[0] + ":"
		for _, line := range strings.Split(f[1], "\n") {
			for _, part := range wrap(Visible(line), width-indent) {
				b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", indent, label, part), " ") + "\n")
				label = ""
			}
		}
	}
	for _, s := range d.sections {
		b.WriteString("\n" + s.title + ":\n")
		if s.table.Rows() == 0 {
			b.WriteString(gap + s.none + "\n")
			continue
		}
		var t strings.Builder
		inner := width
		if width > 0 {
			inner -= len(gap)
		}
		if err := s.table.Fit(&t, inner); err != nil {
			return err
		}
		for line := range strings.Lines(t.String()) {
			b.WriteString(gap + line)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
