// Package output prints what people asked for: as a table that fits the terminal,
// or as JSON or YAML with nothing left out.
package output

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

const (
	// usual is how wide a terminal is that does not tell.
	usual = 80
	// gap is between columns.
	gap = "  "
	// narrow is how narrow a column is made at the most.
	narrow = 8
)

// A Column is a column of a table.
type Column struct {
	// Title is in the first line.
	Title string
	// Shrinks says that the column gives way, its longest cells first, when the
	// table is too wide; what is cut off ends in an ellipsis.
	Shrinks bool
	// Names says the same of a column of names, which is of little use once it is
	// cut, and gives way last.
	Names bool
}

// A Table is rows of text under titles. The zero Table is empty.
type Table struct {
	Columns []Column
	rows    [][]string
	notes   map[int][]string // by the row that they are under
}

// Add adds a row of as many cells as there are columns. What could move a
// terminal's cursor or colour it is made visible instead: some of what is
// printed was written by agents.
func (t *Table) Add(cells ...string) {
	row := make([]string, len(t.Columns))
	for i := range row {
		if i < len(cells) {
			row[i] = Visible(cells[i])
		}
	}
	t.rows = append(t.rows, row)
}

// Note adds a line of its own under the row that was added last. It is never cut:
// where it is too wide it goes on in the next line.
func (t *Table) Note(text string) {
	if t.notes == nil {
		t.notes = make(map[int][]string)
	}
	t.notes[len(t.rows)-1] = append(t.notes[len(t.rows)-1], Visible(text))
}

// Write prints the table: as wide as the terminal that it is written to, and
// whole to anything else.
func (t *Table) Write(w io.Writer) error { return t.Fit(w, Width(w)) }

// Width returns the width of a terminal, and 0 for what is none.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return usual
	}
	return width
}

// Fit prints the table no wider than a width, as far as its columns give way; 0
// is no limit.
func (t *Table) Fit(w io.Writer, width int) error {
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		widths[i] = len(c.Title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	if width > 0 {
		t.shrink(widths, width, func(c Column) bool { return c.Shrinks })
		t.shrink(widths, width, func(c Column) bool { return c.Names })
	}
	var b strings.Builder
	titles := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		titles[i] = c.Title
	}
	for n, row := range append([][]string{titles}, t.rows...) {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s%s", widths[i], cut(cell, widths[i]), gap)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		for _, note := range t.notes[n-1] {
			for _, part := range wrap(note, width-2*len(gap)) {
				b.WriteString(gap + gap + part + "\n")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shrink takes from the widest column that gives way until the table fits.
func (t *Table) shrink(widths []int, width int, gives func(Column) bool) {
	for {
		total, widest := len(gap)*(len(widths)-1), -1
		for i, w := range widths {
			total += w
			if gives(t.Columns[i]) && w > max(narrow, len(t.Columns[i].Title)) && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if total <= width || widest < 0 {
			return
		}
		widths[widest]--
	}
}

// wrap breaks a text between words into lines of a width, if it is not below 1. A
// word that is wider is broken.
func wrap(s string, width int) []string {
	if width < 1 || utf8.RuneCountInString(s) <= width {
		return []string{s}
	}
	var lines []string
	line := []rune(nil)
	for _, word := range strings.Fields(s) {
		w := []rune(word)
		if len(line) > 0 && len(line)+1+len(w) > width {
			lines, line = append(lines, string(line)), nil
		}
		if len(line) > 0 {
			line = append(line, ' ')
		}
		for line = append(line, w...); len(line) > width; line = line[width:] {
			lines = append(lines, string(line[:width]))
		}
	}
	return append(lines, string(line))
}

// Cut returns s on no more than a number of columns.
func Cut(s string, to int) string { return cut(s, to) }

func cut(s string, to int) string {
	if utf8.RuneCountInString(s) <= to {
		return s
	}
	return string([]rune(s)[:to-1]) + "…"
}

// Visible returns s with everything that is not a printable character written
// as an escape.
func Visible(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}
