package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/reeve-authz/reeve/e2e/bench/workload"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// indexedModule decides over grants that are data, by server and tool.
const indexedModule = `package reeve
import rego.v1
default allow := false
allow if {
	some tool in [input.tool, "*"]
	some g in data.grants[input.server][tool]
	input.now < g.expire
	holds(g)
}
holds(g) if startswith(input.args.repo, g.prefix)
holds(g) if input.args.amount <= g.limit
`

func indexedOPA(ctx context.Context, w *workload.Workload, calls []pdp.Call) ([]engine, error) {
	grants := make(map[string]any)
	for _, u := range w.Rules {
		tools, _ := grants[u.Server].(map[string]any)
		if tools == nil {
			tools = make(map[string]any)
			grants[u.Server] = tools
		}
		g := map[string]any{"expire": u.Expire.Unix(), "limit": u.Limit}
		if u.Prefix != "" {
			g = map[string]any{"expire": u.Expire.Unix(), "prefix": u.Prefix}
		}
		list, _ := tools[u.Tool].([]any)
		tools[u.Tool] = append(list, g)
	}
	// Values as the evaluator wants them, so that it need not convert them.
	store := inmem.NewFromObjectWithOpts(map[string]any{"grants": grants}, inmem.OptReturnASTValuesOnRead(true))
	return opa(ctx, "decide_opa_indexed", ">=60", w, calls, rego.Module("reeve.rego", indexedModule), rego.Store(store))
}

// ruledOPA has one rule for each grant, which OPA indexes itself.
func ruledOPA(ctx context.Context, w *workload.Workload, calls []pdp.Call) ([]engine, error) {
	var b strings.Builder
	b.WriteString("package reeve\nimport rego.v1\ndefault allow := false\n")
	for _, u := range w.Rules {
		fmt.Fprintf(&b, "allow if {\n\tinput.server == %q\n", u.Server)
		if u.Tool != "*" {
			fmt.Fprintf(&b, "\tinput.tool == %q\n", u.Tool)
		}
		fmt.Fprintf(&b, "\tinput.now < %d\n", u.Expire.Unix())
		if u.Prefix != "" {
			fmt.Fprintf(&b, "\tstartswith(input.args.repo, %q)\n}\n", u.Prefix)
		} else {
			fmt.Fprintf(&b, "\tinput.args.amount <= %d\n}\n", u.Limit)
		}
	}
	return opa(ctx, "decide_opa_rules", "-", w, calls, rego.Module("reeve.rego", b.String()))
}

// opa prepares a query once. A call's input is built as the evaluator wants it,
// which is the fastest way in.
func opa(ctx context.Context, name, target string, w *workload.Workload, calls []pdp.Call, options ...func(*rego.Rego)) ([]engine, error) {
	query, err := rego.New(append(options, rego.Query("data.reeve.allow"))...).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	now := w.Now.Unix()
	input := func(c pdp.Call) ast.Value {
		args := make([][2]*ast.Term, 0, c.Args.Len())
		for key, v := range c.Args.All() {
			args = append(args, [2]*ast.Term{ast.StringTerm(key), termOf(v)})
		}
		return ast.NewObject(
			ast.Item(ast.StringTerm("server"), ast.StringTerm(c.Server)),
			ast.Item(ast.StringTerm("tool"), ast.StringTerm(c.Name)),
			ast.Item(ast.StringTerm("now"), ast.IntNumberTerm(int(now))),
			ast.Item(ast.StringTerm("args"), ast.ObjectTerm(args...)),
		)
	}
	built := make([]ast.Value, len(calls))
	for i, c := range calls {
		built[i] = input(c)
	}
	decide := func(in ast.Value) bool {
		set, err := query.Eval(ctx, rego.EvalParsedInput(in))
		return err == nil && set.Allowed()
	}
	return []engine{
		{name, target, func(i int) bool { return decide(input(calls[i])) }},
		{name + "_prebuilt", "-", func(i int) bool { return decide(built[i]) }},
	}, nil
}

// termOf is an argument of the workload.
func termOf(v strictjson.Value) *ast.Term {
	switch v := v.(type) {
	case string:
		return ast.StringTerm(v)
	case int64:
		return ast.IntNumberTerm(int(v))
	case bool:
		return ast.BooleanTerm(v)
	default:
		return ast.NullTerm()
	}
}
