// Package doctor looks a set-up over, and says what is wrong with it and which
// command mends that.
package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // works, and is likely not what was meant
	Fail Level = "fail" // does not work
)

// A Finding is one thing that was looked at.
type Finding struct {
	Level Level `json:"level"`
	// What was looked at, in a word or two.
	What string `json:"what"`
	// Text says what was found.
	Text string `json:"text"`
	// Mend is the command that mends it, or what to do; empty if nothing is wrong.
	Mend string `json:"mend,omitempty"`
}

// A Report is findings, in the order in which they were made. The zero Report is
// empty.
type Report struct{ Findings []Finding }

func (r *Report) ok(what, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Level: OK, What: what, Text: fmt.Sprintf(format, args...)})
}

func (r *Report) warn(what, mend, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Level: Warn, What: what, Text: fmt.Sprintf(format, args...), Mend: mend})
}

func (r *Report) fail(what, mend, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Level: Fail, What: what, Text: fmt.Sprintf(format, args...), Mend: mend})
}

// Count returns how many findings are of a level.
func (r *Report) Count(l Level) int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Write prints the report as text no wider than a width.
func (r *Report) Write(w io.Writer, width int) error {
	const indent = "      "
	var b strings.Builder
	for _, f := range r.Findings {
		lead := fmt.Sprintf("%-4s  ", f.Level)
		for _, line := range output.Wrap(output.Visible(f.What+": "+f.Text), width-len(indent)) {
			b.WriteString(lead + line + "\n")
			lead = indent
		}
		if f.Mend != "" {
			lead = indent + "> "
			for _, line := range output.Wrap(output.Visible(f.Mend), width-len(lead)) {
				b.WriteString(lead + line + "\n")
				lead = indent + "  "
			}
		}
	}
	fmt.Fprintf(&b, "\n%d ok, %d to look at, %d wrong\n", r.Count(OK), r.Count(Warn), r.Count(Fail))
	_, err := io.WriteString(w, b.String())
	return err
}

// JSON returns the report for programs.
func (r *Report) JSON() ([]byte, error) {
	findings := r.Findings
	if findings == nil {
		findings = []Finding{}
	}
	return json.Marshal(struct {
		Failed   int       `json:"failed"`
		Warned   int       `json:"warned"`
		Findings []Finding `json:"findings"`
	}{r.Count(Fail), r.Count(Warn), findings})
}

// few names the first of many.
func few(names []string) string {
	const some = 5
	text := strings.Join(names[:min(some, len(names))], ", ")
	if more := len(names) - some; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// count says how many there are of something.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
