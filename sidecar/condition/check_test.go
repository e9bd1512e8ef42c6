package condition_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reeve-authz/reeve/sidecar/condition"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

const refundSchema = `{"type": "object", "required": ["order"], "properties": {
	"order": {"type": "string"},
	"amount_cents": {"type": "integer"},
	"rate": {"type": "number"},
	"urgent": {"type": "boolean"},
	"currency": {"enum": ["EUR", "USD"]},
	"note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
	"to": {"type": "array", "items": {"type": "string"}},
	"lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
	"customer": {"type": "object", "properties": {"id": {"type": "string"}, "address": {"type": "object", "properties": {"city": {"type": "string"}}}}},
	"labels": {"type": "object", "additionalProperties": {"type": "string"}},
	"extra": {}
}, "$defs": {"line": {"type": "object", "properties": {"sku": {"type": "string"}, "price": {"type": "number"}, "count": {"type": "integer"}}}}}`

const listSchema = `{"type": "object", "properties": {"page": {"type": "integer"}, "query": {"type": "string"}, "order": {"type": "integer"}}}`

func tool(tb testing.TB, name, text string) condition.ToolSchema {
	tb.Helper()
	if text == "" {
		return condition.ToolSchema{Name: name}
	}
	s, err := schema.Compile(text)
	if err != nil {
		tb.Fatal(err)
	}
	return condition.ToolSchema{Name: name, Schema: s}
}

// P7: a condition that could not be right for its tool is refused when it is
// written, with what was probably meant.
func TestCheck(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	tools := []condition.ToolSchema{tool(t, "desk/issue_refund", refundSchema)}
	for expr, want := range map[string]string{
		`true`:                      "",
		`args.amount_cents <= 5000`: "",
		`args.amount_cents <= 50.5 && args.rate == 1`:                            "",
		`args.rate < 2 || args.rate > 1.5`:                                       "",
		`double(args.rate) * 2.0 < 3.0`:                                          "",
		`args["order"].startsWith("o-")`:                                         "",
		`args.currency in ["EUR", "USD"]`:                                        "",
		`args.currency == "EUR" && args.urgent`:                                  "",
		`args.to.all(x, x.endsWith("@example.com"))`:                             "",
		`args.lines.exists(l, l.price < 3 && l.sku == "")`:                       "",
		`args.lines.filter(l, l.count > 1).all(m, m.price < 3)`:                  "",
		`args.lines.map(l, l.sku).all(s, s.startsWith("a"))`:                     "",
		`args.lines[0].price < 1 && args.customer.address.city == "Town"`:        "",
		`has(args.note) && args.note != null && args.note.startsWith("x")`:       "",
		`args.note == null || args.note == "x"`:                                  "",
		`args.labels.team == "x" && args.extra.anything == 1 && args.extra == 2`: "",
		`size(args.to) < 3 && args.to.size() < 4 && "a" in args.to`:              "",
		`"order" in args && has(args.customer.id)`:                               "",
		`args.exists(k, k == "order")`:                                           "",
		`(has(args.rate) ? args.rate : 0) < 5`:                                   "",
		`timestamp(args.order) < now && agent.labels.team == args.order`:         "",
		`args.amount_cents + 1 > 5 && args.order + "x" == "ox"`:                  "",
		`session.purpose == "x" && user.id == args.order`:                        "",

		`args.amont_cents <= 1`:                    "at 1:5: args.amont_cents: tool desk/issue_refund has no such argument; did you mean args.amount_cents?",
		`args.AMOUNT_CENTS <= 1`:                   "did you mean args.amount_cents?",
		`args["ordr"] == "x"`:                      `args["ordr"]: tool desk/issue_refund has no such argument; did you mean args.order?`,
		`has(args.amont_cents) && 1 < 2`:           "args.amont_cents: tool desk/issue_refund has no such argument",
		`"ordr" in args`:                           "did you mean args.order?",
		`has(args.zzz) && args.zzz == 1`:           "args.zzz: tool desk/issue_refund has no such argument",
		`args.customer.adress.city == "x"`:         "args.customer.adress: tool desk/issue_refund has no such argument; did you mean args.customer.address?",
		`args.lines.all(l, l.pirce < 3)`:           "l.pirce: tool desk/issue_refund has no such argument; did you mean l.price?",
		`args.lines.filter(l, true).all(m, m.p<3)`: "m.p: tool desk/issue_refund has no such argument",
		`args.lines[0].pric < 3`:                   "args.lines[…].pric: tool desk/issue_refund has no such argument; did you mean args.lines[…].price?",
		`args.amount_cents == "5"`:                 "at 1:19: args.amount_cents, an integer, is never equal to a string (tool desk/issue_refund)",
		`args.order == 5`:                          "args.order, a string, is never equal to an integer",
		`args.order < 5`:                           "args.order, a string, cannot be compared with an integer",
		`args.order == args.amount_cents`:          "args.order, a string, is never equal to args.amount_cents, an integer",
		`args.order in [1, 2]`:                     "args.order, a string, is never in an array of which each is an integer",
		`5 in args.to`:                             "an integer, is never in args.to, an array of which each is a string",
		`args.to == "a"`:                           "args.to, an array, is never equal to a string",
		`args.to.all(x, x < 5)`:                    "x, a string, cannot be compared with an integer",
		`args.lines.exists(l, l.price == "1")`:     "l.price, a number, is never equal to a string",
		`args.rate * 2.0 < 3.0`:                    "args.rate, a number, cannot be reckoned with a double; write double(…)",
		`args.order.city == "x"`:                   "args.order, a string, has no members",
		`args.amount_cents.startsWith("x")`:        "args.amount_cents, an integer, does not have startsWith()",
		`args.order.startsWith(args.amount_cents)`: "startsWith() takes a string, not args.amount_cents, an integer",
		`args.order && true`:                       "args.order, a string, is not true or false",
		`!args.order`:                              "args.order, a string, is not true or false",
		`args.order`:                               "it is a string; compare it with something",
		`args.note == 5`:                           "args.note, a string or null, is never equal to an integer",
		`args.order == null`:                       "args.order, a string, is never equal to null",
		`args.amount_cents[0] == 1`:                "args.amount_cents, an integer, has no elements",
		`args.order.all(x, x == "a")`:              "args.order, a string, cannot be looped over",
		`args.order.getHours() < 5`:                "does not have getHours()",
		`args.labels.team == 5`:                    "args.labels.team, a string, is never equal to an integer",
		`size(args.amount_cents) == 1`:             "size() does not take args.amount_cents, an integer",
		`agent.id == args.amount_cents`:            "a string, is never equal to args.amount_cents, an integer",
		`(has(args.to) ? args.to : ["x"]) == [1]`:  "an array, is never equal to an array",
		`now < args.order`:                         "a timestamp, cannot be compared with args.order, a string",
		"true &&\n args.ordr == \"x\"":             "at 2:6: args.ordr",
		`args.zzz`:                                 "args.zzz: tool",
	} {
		checked(t, c, expr, tools, want)
	}
}

func checked(t *testing.T, c *condition.Compiler, expr string, tools []condition.ToolSchema, want string) {
	t.Helper()
	if _, err := c.Compile(expr); err != nil {
		t.Errorf("%s: does not compile: %v", expr, err)
		return
	}
	err := c.Check(expr, tools)
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", expr, err)
	case want != "" && (!errors.Is(err, condition.ErrInvalid) || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: got %v, want ErrInvalid that says %q", expr, err, want)
	}
}

// An argument that not every covered tool has must be guarded so that it does
// not matter there: one forbid must not deny the world by mistake.
func TestCheckWildcard(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	refund, list, unpinned := tool(t, "desk/issue_refund", refundSchema), tool(t, "desk/list", listSchema), tool(t, "desk/new", "")
	const guard = "args.rate: tool desk/list has no such argument, though others may; write has(args.rate) && … or !has(args.rate) || …"
	for expr, want := range map[string]string{
		`args.rate < 1`:                                                                         "at 1:5: " + guard,
		`has(args.rate) && args.rate < 1`:                                                       "",
		`args.rate < 1 && has(args.rate)`:                                                       "",
		`!has(args.rate) || args.rate < 1`:                                                      "",
		`has(args.rate) ? args.rate < 1 : true`:                                                 "",
		`!has(args.rate) ? true : args.rate < 1`:                                                "",
		`"rate" in args && args["rate"] < 1`:                                                    "",
		`tool.name == "x" || (has(args.rate) && args.rate < 1)`:                                 "",
		`!(has(args.rate) && args.rate < 1)`:                                                    "",
		`has(args.rate) && (args.query == "x" || args.rate < 1)`:                                "args.query: tool desk/issue_refund has no such argument, though others may",
		`has(args.rate) || args.rate < 1`:                                                       guard,
		`!has(args.rate) && args.rate < 1`:                                                      guard,
		`has(args.query) && args.rate < 1`:                                                      guard,
		`has(args.rate) ? true : args.rate < 1`:                                                 guard,
		`tool.name == "issue_refund" && args.rate < 1`:                                          guard,
		`has(args.to) && args.to.all(x, x == "a") && args.to[0] > "b"`:                          "",
		`has(args.lines) && args.lines.all(l, l.price > 1)`:                                     "",
		`has(args.lines) && args.lines.all(l, l.prize > 1)`:                                     "l.prize: tool desk/issue_refund has no such argument; did you mean l.price?",
		`has(args.customer) && has(args.customer.address) && args.customer.address.city == "x"`: "",
		`has(args.customer.address) && args.customer.address.city == "x"`:                       "args.customer: tool desk/list has no such argument",
		// What both have, they have as different things.
		`args.order == "x"`:              "args.order, an integer, is never equal to a string (tool desk/list)",
		`has(args.zzz) && args.zzz == 1`: "args.zzz: tool desk/",
	} {
		checked(t, c, expr, []condition.ToolSchema{refund, list}, want)
		if want == "" {
			checked(t, c, expr, []condition.ToolSchema{list, unpinned, refund}, want)
		}
	}
	// What is not pinned may have anything.
	checked(t, c, `has(args.zzz) && args.zzz == 1`, []condition.ToolSchema{refund, unpinned}, "")
	checked(t, c, `args.zzz == 1`, []condition.ToolSchema{refund, unpinned}, "though others may")
	checked(t, c, `args.zzz == 1`, []condition.ToolSchema{unpinned}, "")
	checked(t, c, `args.zzz == 1`, nil, "")
}

// A condition that is accepted can be evaluated for every call that the schemas
// of its tools let through: it reads nothing that is not there, and compares
// nothing that cannot be compared.
func TestCheckedIsEvaluated(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	all := []struct {
		schema string
		args   []string
	}{
		{
			`{"type": "object", "required": ["a", "b", "n", "l", "o"], "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "n": {"type": "number"},
				"l": {"type": "array", "items": {"type": "string"}}, "o": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}}}`,
			[]string{`{"a": "x", "b": 1, "n": 1, "l": ["x", "y"], "o": {"a": "x"}}`, `{"a": "", "b": 0, "n": 0.5, "l": [], "o": {"a": "z"}}`},
		},
		{
			`{"type": "object", "required": ["a", "c"], "properties": {"a": {"type": "integer"}, "c": {"type": "boolean"}}}`,
			[]string{`{"a": 1, "c": true}`, `{"a": 2, "c": false}`},
		},
		{`{"type": "object", "required": ["b"], "properties": {"b": {"type": "integer"}}}`, []string{`{"b": 1}`}},
	}
	var tools []condition.ToolSchema
	for i, of := range all {
		tools = append(tools, tool(t, fmt.Sprint("s/t", i), of.schema))
	}
	inputs := make([][]*condition.Input, len(all))
	for i, of := range all {
		for _, text := range of.args {
			inputs[i] = append(inputs[i], input(t, text))
		}
	}
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		expr := argumentTests(3).Draw(t, "expr")
		covered := rapid.SliceOfNDistinct(rapid.IntRange(0, 2), 1, 3, rapid.ID[int]).Draw(t, "tools")
		cond, err := c.Compile(expr)
		if err != nil {
			return
		}
		var of []condition.ToolSchema
		for _, i := range covered {
			of = append(of, tools[i])
		}
		if err := c.Check(expr, of); err != nil {
			refused++
			return
		}
		accepted++
		for _, i := range covered {
			for j, in := range inputs[i] {
				if _, err := cond.Holds(in); err != nil {
					t.Fatalf("%s\nof %s: %v", expr, all[i].args[j], err)
				}
			}
		}
	})
	t.Logf("%d conditions were accepted and %d refused", accepted, refused)
	if accepted < 5 || refused < 10 {
		t.Errorf("%d conditions were accepted and %d refused", accepted, refused)
	}
}

// argumentTests draws conditions over arguments, right and wrong.
func argumentTests(depth int) *rapid.Generator[string] {
	argument := rapid.SampledFrom([]string{"args.a", "args.b", "args.c", "args.n", "args.l", "args.o", "args.o.a", "args.o.b", `args["a"]`, "args.z"})
	operand := rapid.OneOf(argument, argument, rapid.SampledFrom([]string{`"x"`, "1", "0.5", "true", "null", `["x"]`}))
	order := rapid.SampledFrom([]string{"==", "!=", "<", ">="})
	format := func(f string, gens ...*rapid.Generator[string]) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			drawn := make([]any, len(gens))
			for i, g := range gens {
				drawn[i] = g.Draw(t, "part")
			}
			return fmt.Sprintf(f, drawn...)
		})
	}
	every := []*rapid.Generator[string]{
		format("%s %s %s", operand, order, operand), format("%s in %s", operand, operand), argument,
		format("has(%s)", rapid.SampledFrom([]string{"args.a", "args.b", "args.c", "args.n", "args.o", "args.o.a", "args.z"})),
		format("%s.startsWith(%s)", argument, operand), format("%s.all(x, x %s %s)", argument, order, operand),
	}
	right := rapid.SampledFrom([]string{
		`has(args.a)`, `has(args.b) && args.b < 2`, `!has(args.n) || args.n > 0.5`, `"l" in args && args.l.all(x, x == "y")`, `has(args.o) && args.o.a == "x"`, `has(args.c)`,
	})
	every = append(every, right, right, right, right)
	if depth > 0 {
		inner := argumentTests(depth - 1)
		every = append(every, format("%s && %s", inner, inner), format("(%s || %s)", inner, inner), format("!(%s)", inner), format("(%s ? %s : %s)", inner, inner, inner),
			format("(has(args.%[1]s) && args.%[1]s == 1 && %[2]s)", rapid.SampledFrom([]string{"a", "b", "n"}), inner))
	}
	return rapid.OneOf(every...)
}

func BenchmarkCheck(b *testing.B) {
	c := compiler(b)
	tools := []condition.ToolSchema{tool(b, "desk/issue_refund", refundSchema)}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Check(`args.amount_cents <= 5000 && args.lines.all(l, l.price < 3) && args.order.startsWith("o-")`, tools); err != nil {
			b.Fatal(err)
		}
	}
}
