package condition_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/sidecar/condition"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

var now = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

func compiler(tb testing.TB) *condition.Compiler {
	tb.Helper()
	c, err := condition.NewCompiler()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func input(tb testing.TB, args string) *condition.Input {
	tb.Helper()
	agent := condition.NewAgent("namespaces/shop/agents/triage", "triage", "shop", map[string]string{"team": "support"})
	tool := condition.NewTool("tickets", "refund", "destructive", "closed")
	in := &condition.Input{Agent: &agent, Tool: &tool, Now: now}
	if args != "" {
		v, err := strictjson.Parse([]byte(args), strictjson.Limits{})
		if err != nil {
			tb.Fatal(err)
		}
		in.Args, _ = v.(*strictjson.Object)
	}
	return in
}

const args = `{"amount": 100, "rate": 1.5, "repo": "acme/web", "urgent": true, "none": null,
	"tags": ["a", "b"], "order": {"id": "o-1", "lines": [{"sku": "x", "n": 2}, {"sku": "y", "n": 3}]}}`

func TestHolds(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	for expr, want := range map[string]string{
		`true`:                                                       "true",
		`args.amount <= 100`:                                         "true",
		`args.amount <= 99`:                                          "false",
		`args.amount<=99.5`:                                          "false",
		`args.amount > -1 && args.rate == 1.5`:                       "true",
		`args.repo.startsWith("acme/")`:                              "true",
		`args.repo.startsWith('acme/')`:                              "true",
		`args.repo.startsWith("other/")`:                             "false",
		`args.repo in ["acme/web", "acme/api"]`:                      "true",
		`args.repo in ["acme/api"]`:                                  "false",
		`args.repo in ["1","2","3","4","5","6","7","acme/web"]`:      "true",
		`args.amount in [1, 2, 100]`:                                 "true",
		`args.amount in [1, 2, 99]`:                                  "false",
		`args["repo"] == "acme/web"`:                                 "true",
		`args.tags[1] == "b"`:                                        "true",
		`args.tags.all(t, t in ["a", "b", "c"])`:                     "true",
		`args.tags.exists(t, t == "c")`:                              "false",
		`args.order.lines.all(l, l.n < 4 && size(l.sku) == 1)`:       "true",
		`args.order == {"id": "o-1"}`:                                "false",
		`{"id": "o-1"}["id"] == args.order.id`:                       "true",
		`args.repo in ["__x"]`:                                       "false",
		`[1, 2, 3].exists(x, x == args.amount - 98)`:                 "true",
		`dyn(type(args.repo)) in ["string"]`:                         "false",
		`dyn(b"acme/web") in ["acme/web"]`:                           "false",
		`dyn(args.rate * 2.0) in [3]`:                                "true",
		`args.rate in [1, 2]`:                                        "false",
		`dyn(args.rate * 1e300) in [1]`:                              "false",
		`dyn(100u) in [100] && !(dyn(18446744073709551615u) in [1])`: "true",
		`args.missing in [1]`:                                        "error",
		`timestamp(args.repo) < now`:                                 "error",
		`args.repo.matches( "^acme/[a-z]+$" )`:                       "true",
		`args.order.lines[0] == {"sku": "x", "n": 2}`:                "true",
		`"id" in args.order`:                                         "true",
		`args.order.exists(k, k == "id")`:                            "true",
		`size(args) == 7`:                                            "true",
		`has(args.repo)`:                                             "true",
		`has(args.missing)`:                                          "false",
		`!has(args.order.id) || args.order.id == "o-1"`:              "true",
		`args.none == null`:                                          "true",
		`args.urgent`:                                                "true",
		`args.missing == 1`:                                          "error",
		`args.repo < 5`:                                              "error",
		`args.repo`:                                                  "error",
		`args.missing == 1 || args.amount == 100`:                    "true",
		`agent.name == "namespaces/shop/agents/triage"`:              "true",
		`agent.id == "triage" && agent.namespace == "shop"`:          "true",
		`agent.labels.team == "support"`:                             "true",
		`has(agent.labels.tier)`:                                     "false",
		`tool.server + "/" + tool.name == "tickets/refund"`:          "true",
		`tool.effect == "destructive" && tool.reach == "closed"`:     "true",
		`has(user.id)`:                                               "false",
		`user.id == "a@example.com"`:                                 "error",
		`now < timestamp("2026-03-02T10:00:01Z")`:                    "true",
		`now < timestamp('2026-03-02T10:00:00Z')`:                    "false",
		`now - timestamp("2026-03-02T09:00:00Z") == duration("1h")`:  "true",
		`now.getHours() >= 9 && now.getHours() < 18`:                 "true",
		`now.getHours("+02:00") == 12 && now.getHours("UTC") == 10`:  "true",
		`args.repo.matches("^acme/[a-z]+$")`:                         "true",
		`args.repo.matches("^acme/[0-9]+$")`:                         "false",
		`"a\"b" == 'a"b'`:                                            "true",
		`size("""x""") == 1`:                                         "true",
		`r"\d" == "\\d"`:                                             "true",
		`1.5e1 == 15.0 && 0x10 == 16`:                                "true",
		`args.amount == 100u`:                                        "true",
		`args.tags.all(x, x != "z") // yes`:                          "true",
	} {
		cond, err := c.Compile(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		got := "false"
		switch holds, err := cond.Holds(input(t, args)); {
		case err != nil:
			got = "error"
		case holds:
			got = "true"
		}
		if got != want {
			t.Errorf("%s = %s, want %s", expr, got, want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	for expr, want := range map[string]string{
		``:                                    "it is empty",
		`args.amount <=`:                      "at 1:15: syntax error: it ends too early",
		`args.a ? 1`:                          "at 1:11: syntax error: it ends too early; ':' is missing",
		`args.a == 1 and args.b == 2`:         "at 1:13: syntax error: 'and' is not expected here; write && for and",
		`1 +* 2 == 3`:                         "at 1:4: syntax error: '*' is not expected here",
		`args.a == "b`:                        "syntax error: token recognition error at",
		`args.amount` + "\n" + `  <= agnt.id`: "at 2:10: undeclared reference to 'agnt.id'",
		`agent.nmae == "x"`:                   "a condition can read agent.{name",
		`tool.input.x == 1`:                   "undeclared reference",
		`size(args)`:                          "it is an int; compare it with something",
		`"a"`:                                 "it is a string; compare it with something",
		`"a" < 1`:                             "no matching overload",
		`args.x.matches("[")`:                 "at 1:16: invalid matches argument",
		`now < timestamp("soon")`:             "invalid timestamp argument",
		`args.x == "` + "\x00" + `"`:          "NUL",
		`now.getHours("Europe/Berlin") < 8`:   "at 1:14: the zone of getHours",
		`now.getHours("Local") < 8`:           "the zone of getHours",
		`now.getDate(args.zone) == 1`:         "the zone of getDate",
		`__s0 == "x"`:                         "two underscores",
		`args.a.all(__s0, __s0 == "x")`:       "two underscores",
		strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300): "recursion",
		strings.Repeat("true && ", 600) + "true":                     "at most 4096",
		`args.a.all(x, args.b.all(y, x == y))`:                       "at most 20000000 are allowed",
		`args.a.all(x, x.all(y, y.all(z, z == 1)))`:                  "nesting",
	} {
		_, err := c.Compile(expr)
		if !errors.Is(err, condition.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want ErrInvalid that says %q", expr, err, want)
		}
	}
}

// What is accepted does not depend on what was compiled before: one sidecar
// must not refuse what another takes.
func TestAcceptsAlike(t *testing.T) {
	t.Parallel()
	for _, like := range [][2]string{
		{`args.repo == "x"`, "args.repo == \x00s"},
		{`args.repo in ["x"]`, "args.repo in \x00S"},
		{`args.repo == "x"`, `args.repo == "__x"`},
		{`args.repo.matches("a")`, `args.repo.matches("[")`},
		{`args.repo.matches( "a")`, `args.repo.matches( "[")`},
		{`args.repo.matches ("a")`, `args.repo.matches ("[")`},
		{`args.repo.matches(("a"))`, `args.repo.matches(("["))`},
		{`now < timestamp("2026-03-02T10:00:01Z")`, `now < timestamp("soon")`},
		{`now < timestamp( "2026-03-02T10:00:01Z")`, `now < timestamp( "soon")`},
		{`now.getHours( "+02:00") > 8`, `now.getHours( "Europe/Berlin") > 8`},
		{`[1].all(x, args.a.exists(y, x == y))`, `[1` + strings.Repeat(",1", 1000) + `].all(x, args.a.exists(y, x == y))`},
		{`args.a.all(x, x.b in ["c"])`, `args.a.all(x, x.b in ["` + strings.Repeat(`c","`, 500) + `d"])`},
		{`args.a.all(x, x.b == "c")`, `args.a.all(x, x.b == "` + strings.Repeat(`c`, 200) + `")`},
	} {
		used := compiler(t)
		first, err := used.Compile(like[0])
		if err != nil {
			t.Errorf("%q: %v", like[0], err)
		}
		_, before := used.Compile(like[1])
		_, fresh := compiler(t).Compile(like[1])
		if (before == nil) != (fresh == nil) {
			t.Errorf("%.60q: after %q: %v; alone: %v", like[1], like[0], before, fresh)
		}
		runtime.KeepAlive(first)
	}
}

func BenchmarkHolds(b *testing.B) {
	c := compiler(b)
	for _, expr := range []string{`args.amount <= 100`, `args.repo.startsWith("acme/")`} {
		cond, err := c.Compile(expr)
		if err != nil {
			b.Fatal(err)
		}
		in := input(b, `{"repo": "acme/web", "amount": 1000}`)
		b.Run(expr, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cond.Holds(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	c := compiler(b)
	expr := `args.repo.startsWith("acme/")`
	keep, err := c.Compile(expr)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Compile(`args.repo.startsWith("other/")`); err != nil {
			b.Fatal(err)
		}
	}
	_ = keep
}
