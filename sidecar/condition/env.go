package condition

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Names that conditions read. A dotted name is one variable to CEL, so that a
// misspelt field is refused when the condition is compiled.
const (
	agentName      = "agent.name"
	agentID        = "agent.id"
	agentNamespace = "agent.namespace"
	agentLabels    = "agent.labels"
	toolServer     = "tool.server"
	toolName       = "tool.name"
	toolEffect     = "tool.effect"
	toolReach      = "tool.reach"
	userName       = "user"
	sessionName    = "session"
	argsName       = "args"
	nowName        = "now"
)

// kinds maps what is lifted to its type.
var kinds = map[byte]*cel.Type{
	liftedString:   cel.StringType,
	liftedInt:      cel.IntType,
	liftedDouble:   cel.DoubleType,
	liftedTime:     cel.TimestampType,
	liftedDuration: cel.DurationType,
	liftedStrings:  cel.ListType(cel.StringType),
	liftedInts:     cel.ListType(cel.IntType),
}

// variable names the n-th lifted constant, which is of this kind.
func variable(kind byte, n int) string { return "__" + string(kind) + strconv.Itoa(n) }

// slot returns n of a name that variable made; -1 for other names.
func slot(name string) int {
	if len(name) < 4 || name[:2] != "__" {
		return -1
	}
	n := 0
	for _, c := range []byte(name[3:]) {
		if !isDigit(c) {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func newEnv() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.Variable(agentName, cel.StringType),
		cel.Variable(agentID, cel.StringType),
		cel.Variable(agentNamespace, cel.StringType),
		cel.Variable(agentLabels, cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable(toolServer, cel.StringType),
		cel.Variable(toolName, cel.StringType),
		cel.Variable(toolEffect, cel.StringType),
		cel.Variable(toolReach, cel.StringType),
		cel.Variable(userName, cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable(sessionName, cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable(argsName, cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable(nowName, cel.TimestampType),
		cel.CrossTypeNumericComparisons(true),
		cel.CustomTypeAdapter(adapter{}),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(maxTemplate),
		cel.ASTValidators(
			cel.ValidateRegexLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateDurationLiterals(),
			zoneValidator{},
			fieldValidator{},
			cel.ValidateComprehensionNestingLimit(maxLoops),
		),
	}
	for kind, t := range kinds {
		for n := range slots {
			options = append(options, cel.Variable(variable(kind, n), t))
		}
	}
	return cel.NewEnv(options...)
}

// What admission assumes of the size of things, in elements or bytes. The
// front doors hold messages to the number of elements; a longer string costs
// in proportion.
const (
	assumedSize    = 100_000
	assumedElement = 64
	// maxCost is the highest estimated cost, in CEL's units: some tenths of a
	// second at the very worst.
	maxCost = 20_000_000
)

// bound refuses a template whose conditions could cost too much to evaluate.
func (c *Compiler) bound(ast *cel.Ast) error {
	estimate, err := c.env.EstimateCost(ast, sizes{})
	if err != nil {
		return fmt.Errorf("%w: estimate its cost: %w", ErrInvalid, err)
	}
	if estimate.Max > maxCost {
		return fmt.Errorf("%w: it could cost up to %d units, and at most %d are allowed; loop over less, or compare with constants",
			ErrInvalid, estimate.Max, maxCost)
	}
	return nil
}

// sizes tells the cost estimate how large inputs can be.
type sizes struct{}

func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	path := n.Path()
	if len(path) == 0 {
		return nil
	}
	switch {
	case slot(path[0]) >= 0 && len(path) == 1 && n.Type().Kind() == types.ListKind:
		return &cost.SizeEstimate{Max: maxLength / 2}
	case slot(path[0]) >= 0:
		return &cost.SizeEstimate{Max: maxLifted}
	case path[0] == agentLabels:
		return &cost.SizeEstimate{Max: 63}
	case path[0] != argsName:
		return &cost.SizeEstimate{Max: 256}
	case len(path) > 1 && path[len(path)-1][0] == '@':
		return &cost.SizeEstimate{Max: assumedElement}
	default:
		return &cost.SizeEstimate{Max: assumedSize}
	}
}

// EstimateCallCost knows that a lifted list finds an element at once.
func (sizes) EstimateCallCost(function, _ string, _ *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	if function != operators.In || len(args) != 2 {
		return nil
	}
	if path := args[1].Path(); len(path) != 1 || slot(path[0]) < 0 {
		return nil
	}
	return &cost.CallEstimate{CostEstimate: cost.FixedCostEstimate(scanned)}
}

// A zoneValidator refuses times of day in a zone that is not written as an
// offset: to know a region's, CEL would read the machine's files.
type zoneValidator struct{}

// Name returns the name of the validator.
func (zoneValidator) Name() string { return "reeve.validator.zone" }

// Validate reports every call such as now.getHours(zone) that it refuses.
func (zoneValidator) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	for _, e := range ast.MatchDescendants(ast.NavigateAST(a), ast.KindMatcher(ast.CallKind)) {
		call := e.AsCall()
		if !isGetter(call.FunctionName()) || len(call.Args()) == 0 {
			continue
		}
		zone := call.Args()[0]
		if zone.Kind() == ast.LiteralKind {
			if s, ok := zone.AsLiteral().(types.String); ok && offset.MatchString(string(s)) {
				continue
			}
		}
		issues.ReportErrorAtID(zone.ID(), `the zone of %s must be "UTC" or an offset such as "+02:00"`, call.FunctionName())
	}
}

var offset = regexp.MustCompile(`^(UTC|[+-]?[0-9]{2}:[0-9]{2})$`)

// isGetter reports whether a function takes a part out of a timestamp.
func isGetter(name string) bool { return strings.HasPrefix(name, "get") }
