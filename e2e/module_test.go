package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/reeve-authz/reeve"

// pkg is what the rules need to know of a package, tests left out.
type pkg struct {
	name    string
	docs    []string          // files that carry a package comment
	imports map[string]string // import path → a file that has it
	inits   int
}

// parseModule reads every package of the module in this process, so that the
// test cache sees the files and runs the test again when one changes.
func parseModule(t *testing.T) map[string]*pkg {
	t.Helper()
	root := os.DirFS("..")
	packages := make(map[string]*pkg)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || isModule(root, path)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		return parseFile(packages, path)
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// isModule reports whether a folder is a module of its own.
func isModule(root fs.FS, path string) bool {
	_, err := fs.Stat(root, path+"/go.mod")
	return err == nil
}

func parseFile(packages map[string]*pkg, path string) error {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", path), nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := filepath.ToSlash(filepath.Dir(path))
	p := packages[dir]
	if p == nil {
		p = &pkg{name: f.Name.Name, imports: make(map[string]string)}
		packages[dir] = p
	}
	if f.Doc != nil {
		p.docs = append(p.docs, path)
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		p.imports[strings.TrimPrefix(imported, module+"/")] = path
	}
	for _, decl := range f.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			p.inits++
		}
	}
	return nil
}
