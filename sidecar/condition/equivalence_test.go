package condition_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"pgregory.net/rapid"

	"github.com/reeve-authz/reeve/sidecar/condition"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// plainCEL evaluates conditions as anyone would with cel-go: no templates, no
// short cuts, plain Go maps.
func plainCEL(tb testing.TB) func(expr, args string) (holds, failed bool) {
	tb.Helper()
	dyn := cel.MapType(cel.StringType, cel.DynType)
	env, err := cel.NewEnv(
		cel.Variable("agent", dyn), cel.Variable("tool", dyn), cel.Variable("user", dyn), cel.Variable("session", dyn),
		cel.Variable("args", dyn), cel.Variable("now", cel.TimestampType), cel.CrossTypeNumericComparisons(true),
	)
	if err != nil {
		tb.Fatal(err)
	}
	none := map[string]any{}
	vars := map[string]any{
		"agent": map[string]any{
			"name": "namespaces/shop/agents/triage", "id": "triage", "namespace": "shop", "labels": map[string]any{"team": "support"},
		},
		"tool": map[string]any{"server": "tickets", "name": "refund", "effect": "destructive", "reach": "closed"},
		"user": none, "session": none, "now": now,
	}
	return func(expr, args string) (bool, bool) {
		ast, issues := env.Compile(expr)
		if issues.Err() != nil {
			tb.Fatalf("%s: %v", expr, issues.Err())
		}
		program, err := env.Program(ast)
		if err != nil {
			tb.Fatal(err)
		}
		v, err := strictjson.Parse([]byte(args), strictjson.Limits{})
		if err != nil {
			tb.Fatal(err)
		}
		vars["args"] = native(v)
		out, _, err := program.Eval(vars)
		if err != nil {
			return false, true
		}
		b, ok := out.(types.Bool)
		return bool(b), !ok
	}
}

func native(v strictjson.Value) any {
	switch v := v.(type) {
	case *strictjson.Object:
		m := make(map[string]any)
		for k, e := range v.All() {
			m[k] = native(e)
		}
		return m
	case []strictjson.Value:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = native(e)
		}
		return list
	default:
		return v
	}
}

// expressions draws conditions, most of them well typed.
func expressions(depth int) *rapid.Generator[string] {
	text := rapid.SampledFrom([]string{`"acme/"`, `'acme/web'`, `"o-1"`, `""`, `"a"`, `"b\u0041"`, `r"a"`, `"support"`})
	number := rapid.SampledFrom([]string{"0", "1", "99", "100", "101", "-1", "1.5", "100.0", "1e2", "0x64", "100u"})
	operand := rapid.SampledFrom([]string{
		"args.amount", "args.rate", "args.repo", "args.missing", "args.order.id", "args.order", "args.tags", `args["repo"]`, "args.tags[0]",
		"args.none", "args.urgent", "agent.id", "agent.labels.team", "tool.effect", "tool.name", "size(args.tags)",
	})
	element := rapid.OneOf(operand, text, number)
	format := func(f string, gens ...*rapid.Generator[string]) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			drawn := make([]any, len(gens))
			for i, g := range gens {
				drawn[i] = g.Draw(t, "part")
			}
			return fmt.Sprintf(f, drawn...)
		})
	}
	list := rapid.Custom(func(t *rapid.T) string {
		of := rapid.SampledFrom([]*rapid.Generator[string]{text, number, operand}).Draw(t, "of")
		return "[" + strings.Join(rapid.SliceOfN(of, 1, 10).Draw(t, "list"), ", ") + "]"
	})
	order := rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="})
	search := rapid.SampledFrom([]string{"startsWith", "endsWith", "contains", "matches"})
	loop := rapid.SampledFrom([]string{"all", "exists", "exists_one"})
	all := []*rapid.Generator[string]{
		format("%s %s %s", operand, order, element),
		format("%s %s %s", element, order, operand),
		format("%s.%s(%s)", operand, search, text),
		format("%s in %s", element, list),
		format("%s in %s", element, operand),
		format("args.tags.%s(t, t %s %s)", loop, order, text),
		format("has(args.%s)", rapid.SampledFrom([]string{"repo", "missing", "order.id", "order.none", "repo.x"})),
		rapid.SampledFrom([]string{
			"args.urgent", "true", "has(agent.labels.team)", `now < timestamp("2026-03-02T10:00:01Z")`, `now - duration("1h") > timestamp('2026-01-01T00:00:00Z')`,
			`args.order == {"id": "o-1", "n": 2}`, "size(args) > 3", `args.tags == ["a", "b"]`, `args.exists(k, k == "repo")`,
		}),
	}
	if depth > 0 {
		inner := expressions(depth - 1)
		all = append(
			all,
			format("%s && %s", inner, inner), format("(%s) || (%s)", inner, inner), format("!(%s)", inner),
			format("%s && (%s) && %s", inner, inner, inner), format("(%s ? %s : %s)", inner, inner, inner),
		)
	}
	return rapid.OneOf(all...)
}

var argsTexts = []string{
	args,
	`{}`,
	`{"amount": "100", "repo": 5, "tags": {"a": 1}, "order": [], "urgent": "yes", "rate": 99.5}`,
	`{"amount": 99.5, "repo": "o-1", "tags": ["a"], "order": {"id": "o-1", "n": 2, "none": null}, "urgent": false}`,
	`{"amount": 0, "repo": "", "tags": [], "missing": true}`,
}

// TestMeansWhatCELMeans shows that neither templates nor short cuts change what
// a condition means.
func TestMeansWhatCELMeans(t *testing.T) {
	t.Parallel()
	c, plain := compiler(t), plainCEL(t)
	inputs := make([]*condition.Input, len(argsTexts))
	for i, text := range argsTexts {
		inputs[i] = input(t, text)
	}
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		expr := expressions(2).Draw(t, "expr")
		cond, err := c.Compile(expr)
		if err != nil {
			if !errors.Is(err, condition.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		for i, text := range argsTexts {
			wantHolds, wantFailed := plain(expr, text)
			holds, err := cond.Holds(inputs[i])
			if holds != wantHolds || (err != nil) != wantFailed {
				t.Fatalf("%s\nof %s\nis %t (%v), and to CEL %t (failed: %t)", expr, text, holds, err, wantHolds, wantFailed)
			}
			compared++
		}
	})
	if compared < 100 {
		t.Errorf("only %d comparisons were made", compared)
	}
}

// FuzzCompile: no text makes Compile or Holds panic, and what it accepts means
// what it means to CEL.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`args.amount <= 100 && args.repo.startsWith("acme/")`, `args.repo in ["a", 'b']`, `args.x[0] == 1.5`, `"""a""" == r'b'`, `now < timestamp("2026-01-01T00:00:00Z")`,
		`args.tags.all(x, x == "a") // c`, `__s0`, `-1 < -1.0`, `{"a": 1}["a"] == 1`, `args.repo.matches('^a')`, `[1, 2][0] == 1`, `a ? b : c`, "args.`x` == 1",
	} {
		f.Add(s)
	}
	c, plain := compiler(f), plainCEL(f)
	f.Fuzz(func(t *testing.T, expr string) {
		cond, err := c.Compile(expr)
		if err != nil {
			if !errors.Is(err, condition.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		for _, text := range argsTexts {
			holds, err := cond.Holds(input(t, text))
			if wantHolds, wantFailed := plain(expr, text); holds != wantHolds || (err != nil) != wantFailed {
				t.Fatalf("%q of %s is %t (%v), and to CEL %t (failed: %t)", expr, text, holds, err, wantHolds, wantFailed)
			}
		}
	})
}

// TestTemplatesAreShared and forgotten when nothing needs them.
func TestTemplatesAreShared(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	held := make([]condition.Condition, 1000)
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := w; i < len(held); i += 4 {
				var err error
				if held[i], err = c.Compile(fmt.Sprintf(`args.repo.startsWith("team-%d/") && args.amount < %d`, i, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if n := c.Templates(); n != 1 {
		t.Errorf("%d templates for one form of condition", n)
	}
	runtime.KeepAlive(held)
	held = nil
	for deadline := time.Now().Add(10 * time.Second); c.Templates() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("a template that nothing needs is remembered")
		}
		runtime.GC()
	}
}

// TestPack: what is packed means what it meant.
func TestPack(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	a, err := c.Compile(`args.repo.startsWith("acme/") && agent.id == "triage"`)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Compile(`args.repo == "acme/web"`)
	if err != nil {
		t.Fatal(err)
	}
	condition.Pack(&a, &b)
	for _, cond := range []condition.Condition{a, b} {
		if holds, err := cond.Holds(input(t, args)); !holds || err != nil {
			t.Errorf("got %t, %v", holds, err)
		}
	}
}

func TestAllocations(t *testing.T) {
	c := compiler(t)
	for expr, want := range map[string]float64{
		`args.amount <= 1000`: 0,
		`args.repo.startsWith("acme/") && args.amount < 1000 && has(args.tags)`: 0,
		`args.repo in ["acme/web", "acme/api"] || agent.id == "x"`:              0,
		`args.amount + 1 <= 1000`: 2,
	} {
		cond, err := c.Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		in := input(t, strings.Replace(args, "100", "1000", 1))
		got := testing.AllocsPerRun(100, func() {
			if _, err := cond.Holds(in); err != nil {
				t.Error(err)
			}
		})
		if got > want {
			t.Errorf("%s: %v allocations, want at most %v", expr, got, want)
		}
	}
}
