package condition

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// fields are those of the maps that may be empty. What reads another one would
// never find it.
var fields = map[string][]string{
	sessionName: {"id", "origin", "purpose"},
	userName:    {"id"},
}

// A fieldValidator refuses misspelt fields of session and user.
type fieldValidator struct{}

// Name returns the name of the validator.
func (fieldValidator) Name() string { return "reeve.validator.field" }

// Validate reports every field such as session.porpose that it refuses.
func (fieldValidator) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	for _, e := range ast.MatchDescendants(ast.NavigateAST(a), ast.KindMatcher(ast.SelectKind)) {
		s := e.AsSelect()
		if s.Operand().Kind() != ast.IdentKind {
			continue
		}
		name := s.Operand().AsIdent()
		known, ok := fields[name]
		// A loop may call its variable the same.
		loop := !cel.MapType(cel.StringType, cel.StringType).IsExactType(a.GetType(s.Operand().ID()))
		if !ok || loop || slices.Contains(known, s.FieldName()) {
			continue
		}
		issues.ReportErrorAtID(e.ID(), "undeclared reference to '%s.%s'; %s has %s", name, s.FieldName(), name, strings.Join(known, ", "))
	}
}
