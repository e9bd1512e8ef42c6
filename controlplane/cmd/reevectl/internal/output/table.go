// Package output prints what people asked for: as a table that fits the terminal,
// or as JSON or YAML with nothing left out.
package output

import (
	"fmt"
	"io"
	"os"
	"slices"
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
	// narrow is how narrow a column is made at the most, as long as others can give
	// way or be left out, and readable a column of names.
	narrow   = 8
	readable = 20
	// sliver is how narrow a column is made when nothing else helps.
	sliver = 3
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
	// Spare is not 0 if the column is left out when the table is too wide though
	// others gave way, the highest first.
	Spare int
	// IfAny says that the column is left out if all its cells are empty.
	IfAny bool
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

// Fit prints the table no wider than a width: columns give way, and those that
// can be spared are left out; 0 is no limit.
func (t *Table) Fit(w io.Writer, width int) error {
	widths := t.fitted(width)
	var b strings.Builder
	titles := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		titles[i] = c.Title
	}
	for n, row := range append([][]string{titles}, t.rows...) {
		var line strings.Builder
		for i, cell := range row {
			if widths[i] >= 0 {
				fmt.Fprintf(&line, "%-*s%s", widths[i], cut(cell, widths[i]), gap)
			}
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

// Rows returns how many rows there are.
func (t *Table) Rows() int { return len(t.rows) }

// fitted returns how wide each column is made, -1 for one that is left out.
func (t *Table) fitted(width int) []int {
	whole := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		widest := 0
		for _, row := range t.rows {
			widest = max(widest, utf8.RuneCountInString(row[i]))
		}
		if whole[i] = max(widest, utf8.RuneCountInString(c.Title)); c.IfAny && widest == 0 {
			whole[i] = -1
		}
	}
	if width <= 0 {
		return whole
	}
	for {
		widths := slices.Clone(whole)
		if t.shrink(widths, width, narrow, func(c Column) bool { return c.Shrinks }) ||
			t.shrink(widths, width, readable, func(c Column) bool { return c.Names }) {
			return widths
		}
		spare := -1
		for i, c := range t.Columns {
			if whole[i] >= 0 && c.Spare > 0 && (spare < 0 || c.Spare > t.Columns[spare].Spare) {
				spare = i
			}
		}
		if spare < 0 {
			_ = t.shrink(widths, width, narrow, func(c Column) bool { return c.Names }) ||
				t.shrink(widths, width, sliver, func(Column) bool { return true })
			return widths
		}
		whole[spare] = -1
	}
}

// shrink takes from the widest column that gives way, down to a width, until the
// table fits, and reports whether it does.
func (t *Table) shrink(widths []int, width, down int, gives func(Column) bool) bool {
	for {
		total, widest := -len(gap), -1
		for i, w := range widths {
			if w < 0 {
				continue
			}
			total += len(gap) + w
			low := down
			if down > sliver {
				low = max(down, utf8.RuneCountInString(t.Columns[i].Title))
			}
			if gives(t.Columns[i]) && w > low && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if total <= width || widest < 0 {
			return total <= width
		}
		widths[widest]--
	}
}

// Wrap breaks a text between words into lines of a width, if it is not below 1.
func Wrap(s string, width int) []string { return wrap(s, width) }

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

// Height returns how many lines a terminal has, and 0 for what is none.
func Height(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	_, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return height
}
