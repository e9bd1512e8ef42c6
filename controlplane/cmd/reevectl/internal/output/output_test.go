package output_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func TestTable(t *testing.T) {
	t.Parallel()
	table := &output.Table{Columns: []output.Column{{Title: "NAME"}, {Title: "TARGETS", Shrinks: true}, {Title: "IF", Shrinks: true}, {Title: "EXPIRES"}}}
	table.Add("short", "desk/refund", "", "in 30d")
	table.Add("a-rather-long-name", strings.Repeat("t", 60), strings.Repeat("c", 60), "in 1h")
	table.Add("müller", "\x1b[31mred\n", "\u009b", "\xff")
	var got bytes.Buffer
	if err := table.Fit(&got, 80); err != nil {
		t.Fatal(err)
	}
	want := `NAME                TARGETS                   IF                         EXPIRES
short               desk/refund                                          in 30d
a-rather-long-name  ttttttttttttttttttttttt…  cccccccccccccccccccccccc…  in 1h
müller              \u001b[31mred\u000a       \u009b                     \xff
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestTableIsWhole: what is not a terminal, such as a pipe, gets all of it.
func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	table := &output.Table{Columns: []output.Column{{Title: "NAME", Names: true}, {Title: "IF", Shrinks: true}}}
	table.Add(strings.Repeat("n", 100), strings.Repeat("c", 100))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = table.Write(w)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !strings.HasSuffix(string(got), strings.Repeat("n", 100)+"  "+strings.Repeat("c", 100)+"\n") {
		t.Errorf("got %v:\n%s", err, got)
	}
}

// TestNamesAreCutLast: and everything else before it as far as it goes.
func TestNamesAreCutLast(t *testing.T) {
	t.Parallel()
	table := &output.Table{Columns: []output.Column{{Title: "NAME", Names: true}, {Title: "IF", Shrinks: true}}}
	table.Add("a-name-of-twenty-let", "a condition of many letters")
	for width, want := range map[int]string{
		0:  "a-name-of-twenty-let  a condition of many letters",
		49: "a-name-of-twenty-let  a condition of many letters",
		40: "a-name-of-twenty-let  a condition of ma…",
		30: "a-name-of-twenty-let  a condi…",
		25: "a-name-of-twen…  a condi…",
		18: "a-name-…  a condi…",
		9:  "a-…  a c…",
	} {
		var got bytes.Buffer
		if err := table.Fit(&got, width); err != nil {
			t.Fatal(err)
		}
		if _, row, _ := strings.Cut(got.String(), "\n"); row != want+"\n" {
			t.Errorf("on %d columns:\n%s; want\n%s", width, row, want)
		}
	}
}

// TestTableFits: a table with columns that give way is no wider than the
// terminal, its columns are aligned, and no cell brings a line of its own.
func TestTableFits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := &output.Table{Columns: []output.Column{{Title: "A"}, {Title: "B", Shrinks: true}, {Title: "C", Shrinks: true}}}
		rows := rapid.IntRange(0, 5).Draw(t, "rows")
		for range rows {
			table.Add(rapid.StringN(0, 5, -1).Draw(t, "a"), rapid.String().Draw(t, "b"), rapid.String().Draw(t, "c"))
		}
		var b bytes.Buffer
		if err := table.Fit(&b, 80); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) != rows+1 {
			t.Errorf("%d rows in %d lines", rows, len(lines))
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > 80 {
				t.Errorf("a line is %d wide: %s", n, line)
			}
		}
	})
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                                  "0s",
		6200 * time.Millisecond:            "6.2s",
		3 * time.Second:                    "3s",
		59 * time.Second:                   "59s",
		90 * time.Second:                   "90s",
		10 * time.Minute:                   "10m",
		time.Hour - time.Second:            "1h",
		90 * time.Minute:                   "1h30m",
		26 * time.Hour:                     "26h",
		30*24*time.Hour - time.Millisecond: "30d",
		-2 * time.Minute:                   "-2m",
	} {
		if got := output.Duration(d); got != want {
			t.Errorf("Duration(%s) = %s; want %s", d, got, want)
		}
	}
}

func TestInstants(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(d)) }
	for _, c := range []struct{ name, got, want string }{
		{"no age", output.Age(nil, now), ""},
		{"age", output.Age(at(-3*time.Hour), now), "3h"},
		{"age of what is made by a faster clock", output.Age(at(time.Second), now), "0s"},
		{"until", output.Until(at(time.Hour), now), "in 1h"},
		{"until now", output.Until(at(0), now), "expired"},
		{"until far", output.Until(at(400*24*time.Hour), now), "2027-12-28"},
		{"today", output.Clock(at(-time.Hour), now), "11:00:00"},
		{"this year", output.Clock(at(-48*time.Hour), now), "Nov 21 12:00"},
		{"long ago", output.Clock(at(-400*24*time.Hour), now), "2025-10-19"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q; want %q", c.name, c.got, c.want)
		}
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	ns := []*grantv1.Namespace{{Name: "namespaces/a"}, {Name: "namespaces/b", Description: "\u009b31m<b>"}}
	for name, c := range map[string]struct {
		print func(*bytes.Buffer) error
		want  string
	}{
		"one as JSON":   {func(b *bytes.Buffer) error { return output.One(b, output.AsJSON, ns[0]) }, "{\n  \"kind\": \"Namespace\",\n  \"name\": \"namespaces/a\"\n}\n"},
		"one as YAML":   {func(b *bytes.Buffer) error { return output.One(b, output.AsYAML, ns[0]) }, "kind: Namespace\nname: namespaces/a\n"},
		"none as JSON":  {func(b *bytes.Buffer) error { return output.List(b, output.AsJSON, ns[:0]) }, "[]\n"},
		"none as YAML":  {func(b *bytes.Buffer) error { return output.List(b, output.AsYAML, ns[:0]) }, ""},
		"empty as JSON": {func(b *bytes.Buffer) error { return output.One(b, output.AsJSON, &grantv1.Namespace{}) }, "{\n  \"kind\": \"Namespace\"\n}\n"},
		"two as YAML": {
			func(b *bytes.Buffer) error { return output.List(b, output.AsYAML, ns) },
			"kind: Namespace\nname: namespaces/a\n---\nkind: Namespace\nname: namespaces/b\ndescription: \"\\x9B31m<b>\"\n",
		},
		"a line of JSON": {
			func(b *bytes.Buffer) error { return output.Line(b, output.AsJSON, ns[1]) },
			`{"kind":"Namespace","name":"namespaces/b","description":"\u009b31m<b>"}` + "\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			if err := c.print(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestColumnsAreSpared: what can be spared is left out before names are cut
// beyond reading, the highest first, and what nobody has is not there at all.
func TestColumnsAreSpared(t *testing.T) {
	t.Parallel()
	table := &output.Table{Columns: []output.Column{
		{Title: "NAME", Names: true}, {Title: "A", Spare: 1}, {Title: "B", Spare: 2}, {Title: "C", IfAny: true},
	}}
	table.Add("a-name-of-twenty-let", "first", "second", "")
	for width, want := range map[int]string{
		0:  "NAME                  A      B\na-name-of-twenty-let  first  second\n",
		35: "NAME                  A      B\na-name-of-twenty-let  first  second\n",
		34: "NAME                  A\na-name-of-twenty-let  first\n",
		26: "NAME\na-name-of-twenty-let\n",
		12: "NAME\na-name-of-t…\n",
	} {
		var got bytes.Buffer
		if err := table.Fit(&got, width); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.String()); diff != "" {
			t.Errorf("on %d columns, -want +got:\n%s", width, diff)
		}
	}
}

// TestDescription: fields, sections, what is said of an empty one, and for
// programs its members in their order; nothing is wider than the terminal.
func TestDescription(t *testing.T) {
	t.Parallel()
	table := &output.Table{Columns: []output.Column{{Title: "NAME"}}}
	table.Add("x\x1b")
	var d output.Description
	d.Field("Agent", "a long name of words")
	d.Field("Owner", "")
	d.Field("Since", "one\ntwo")
	d.Section("Grants", table, "none")
	d.Section("Sessions", &output.Table{}, "none: start one")
	d.Member("b", []string{})
	d.Member("a", 1)
	var got bytes.Buffer
	if err := d.Print(&got, output.AsTable, 20); err != nil {
		t.Fatal(err)
	}
	want := "Agent:  a long name\n        of words\nSince:  one\n        two\n\nGrants:\n  NAME\n  x\\u001b\n\nSessions:\n  none: start one\n"
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got.Reset()
	if err := d.Print(&got, output.AsJSON, 20); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("{\n  \"b\": [],\n  \"a\": 1\n}\n", got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := d.Print(&got, output.AsName, 20); err == nil {
		t.Error("a description has a name")
	}
}
