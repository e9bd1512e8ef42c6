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

// Write prints the table: as wide as the terminal that it is written to, and
// whole to anything else.
func (t *Table) Write(w io.Writer) error { return t.Fit(w, widthOf(w)) }

// widthOf returns the width of a terminal, and 0 for what is none.
func widthOf(w io.Writer) int {
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
	for _, row := range append([][]string{titles}, t.rows...) {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s%s", widths[i], cut(cell, widths[i]), gap)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
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
