package clitest

import (
	"strings"
	"unicode/utf8"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
)

// Long is an id as long as ids can be.
var Long = strings.Repeat("long-", 12) + "end"

// Fits fails the test if a table, which has names as long as they can be, is not
// shown on 80 columns with its titles whole.
func Fits(t interface {
	Helper()
	Errorf(format string, args ...any)
}, name string, table *output.Table,
) {
	t.Helper()
	var text strings.Builder
	if err := table.Fit(&text, 80); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if table.Rows() == 0 {
		t.Errorf("%s: has no rows", name)
	}
	for line := range strings.Lines(text.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%s: %d columns wide:\n%s", name, n, line)
		}
	}
	titles, _, _ := strings.Cut(text.String(), "\n")
	if strings.Contains(titles, "…") {
		t.Errorf("%s: cannot show its titles: %s", name, titles)
	}
}
