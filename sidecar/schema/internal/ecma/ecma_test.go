package ecma_test

import (
	"testing"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/ecma"
)

// email is what a common library writes for e-mail addresses.
const email = `^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$`

// What is accepted means what it means to ECMA-262.
func TestCompile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expr, text string
		want       bool
	}{
		{`^a$`, "a", true},
		{`^a$`, "a\n", false},
		{`^.$`, "\u2028", false},
		{`^[\s\S]$`, "\n", true},
		{`^[^]$`, "\n", true},
		{`^\s$`, "\u00a0", true},
		{`^[\s]$`, "\ufeff", true},
		{`^\S$`, "\v", false},
		{`^\u0061\u{62}\x63$`, "abc", true},
		{`^\ud83d\ude00$`, "😀", true},
		{`^[\b]$`, "\b", true},
		{`^\d$`, "٣", false},
		{`^[[]$`, "[", true},
		{`^[.]$`, "x", false},
		{`^\0$`, "\x00", true},
		{`^(?:a|b)(?<n>c)\/\-\.$`, "bc/-.", true},
		{`^\p{Lu}$`, "É", true},
		{`a`, "bab", true},
		{email, "a.person@example.com", true},
		{email, ".a@example.com", false},
		{email, "a..b@example.com", false},
		{email, "a@example", false},
		{`^(?=.*\d)(?=.*[(|)])\w.+$`, "a1(", true},
		{`^(?=.*\d)(?=.*[(|)])\w.+$`, "a1", false},
		{`^(?!a|b)(?:c|d)`, "c", true},
	} {
		p, err := ecma.Compile(c.expr)
		if err != nil {
			t.Errorf("%s: %v", c.expr, err)
			continue
		}
		if got := p.MatchString(c.text); got != c.want {
			t.Errorf("%s matches %q: %t, want %t", c.expr, c.text, got, c.want)
		}
	}
}

// What RE2 does not have, or engines read differently, is refused.
func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{
		`^(?!a)b|c`, `^(?!a)*b`, `^(?!a`, `^a(?!b)`, `^(?!(?=a))b`, `(?!a)b`,
		`(?=a)`, `(?!a)`, `(?<=a)b`, `(?<!a)b`, `(a)\1`, `\k<a>`, `(?i)a`, `(?P<a>b)`, `\Aa`, `a\z`, `a\Z`, `\Qa\E`, `\C`, `\a`, `[[:alpha:]]`, `[]`,
		`\ud83d`, `\u12`, `\u{110000}`, `\cA`, `\01`, `\x{61}`, `\pL`, `[^\S]`, `(`, `[a`, `a**`, `a{2,1}`, `\`, `\é`, `(?#x)`,
	} {
		if p, err := ecma.Compile(expr); err == nil {
			t.Errorf("%s is accepted, as %v", expr, p)
		}
	}
}
