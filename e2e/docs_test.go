package e2e

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocs follows every link from one page or folder of this repository to
// another, and looks up every make target that a page names.
func TestDocs(t *testing.T) {
	t.Parallel()
	root := os.DirFS("..")
	makefile, err := fs.ReadFile(root, "Makefile")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)
	target := regexp.MustCompile("(?m)(?:^|`|; )make ([a-z][a-z0-9-]*)")
	pages := []string{"README.md", "CHANGELOG.md", "examples/support/README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := fs.Glob(root, pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	for _, page := range pages {
		text, err := fs.ReadFile(root, page)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			to := string(m[1])
			if strings.Contains(to, "://") {
				continue
			}
			if _, err := fs.Stat(root, path.Join(path.Dir(page), to)); err != nil {
				t.Errorf("%s links to %s: %v", page, to, err)
			}
		}
		for _, m := range target.FindAllSubmatch(text, -1) {
			if !regexp.MustCompile(`(?m)^` + string(m[1]) + `:`).Match(makefile) {
				t.Errorf("%s says make %s, and there is no such target", page, m[1])
			}
		}
	}
}

// TestDecisionsAreListed keeps the table of decisions whole.
func TestDecisionsAreListed(t *testing.T) {
	t.Parallel()
	decisions, err := filepath.Glob("../docs/decisions/[0-9]*.md")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("../docs/decisions/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(decisions) == 0 {
		t.Fatal("found no decisions")
	}
	for _, d := range decisions {
		if !strings.Contains(string(table), "("+filepath.Base(d)+")") {
			t.Errorf("docs/decisions/README.md does not list %s", filepath.Base(d))
		}
	}
}
