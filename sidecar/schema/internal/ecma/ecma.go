// Package ecma compiles the regular expressions of JSON Schema, which are those
// of ECMA-262, to RE2. What RE2 does not have, and what engines read in
// different ways, it refuses.
package ecma

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf16"
)

// spaces are what \s means in ECMA-262, for the inside of a class.
const spaces = `\t\n\v\f\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}`

// A Pattern is a compiled expression. It is safe for concurrent use.
type Pattern struct {
	main *regexp.Regexp
	// begins and not are what a text must and must not begin with.
	begins, not []*regexp.Regexp
}

// MatchString reports whether the expression matches anywhere in s. It takes
// time in proportion to s.
func (p *Pattern) MatchString(s string) bool {
	for _, b := range p.begins {
		if !b.MatchString(s) {
			return false
		}
	}
	for _, n := range p.not {
		if n.MatchString(s) {
			return false
		}
	}
	return p.main.MatchString(s)
}

// Compile compiles an expression of ECMA-262, which matches anywhere in a text.
// Of looking ahead, it has what commonly stands right after a first ^, as in
// ^(?!\.)[a-z.]+$, since that is to match several expressions.
func Compile(expr string) (*Pattern, error) {
	p := &Pattern{}
	rest, anchored := strings.CutPrefix(expr, "^")
	for anchored && (strings.HasPrefix(rest, "(?!") || strings.HasPrefix(rest, "(?=")) {
		end, _ := group(rest)
		if end < 0 || end+1 < len(rest) && strings.IndexByte("*+?{", rest[end+1]) >= 0 {
			return nil, errors.New("a look ahead that does not end, or is repeated")
		}
		ahead, err := translate("^(?:" + rest[len("(?!"):end] + ")")
		if err != nil {
			return nil, err
		}
		if rest[2] == '!' {
			p.not = append(p.not, ahead)
		} else {
			p.begins = append(p.begins, ahead)
		}
		rest, expr = rest[end+1:], "^"+rest[end+1:]
	}
	if p.begins != nil || p.not != nil {
		if _, either := group("(" + rest + ")"); either {
			return nil, errors.New("a look ahead in only one of several alternatives, which RE2 does not have")
		}
	}
	var err error
	p.main, err = translate(expr)
	return p, err
}

// group returns the place of the parenthesis that closes the one with which s
// begins, -1 if there is none, and whether the group has alternatives.
func group(s string) (end int, either bool) {
	depth, class := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '(':
			depth++
		case c == '|' && depth == 1:
			either = true
		case c == ')':
			if depth--; depth == 0 {
				return i, either
			}
		}
	}
	return -1, either
}

// translate compiles an expression for RE2.
func translate(expr string) (*regexp.Regexp, error) {
	t := translator{rest: expr}
	for t.rest != "" {
		if err := t.token(); err != nil {
			return nil, err
		}
	}
	p, err := regexp.Compile(t.out.String())
	if err == nil {
		return p, nil
	}
	var e *syntax.Error
	if errors.As(err, &e) {
		return nil, fmt.Errorf("RE2 does not have it: %s", e.Code)
	}
	return nil, err
}

// A translator writes an expression for RE2, token by token.
type translator struct {
	rest  string
	out   strings.Builder
	class bool // in brackets
}

func (t *translator) token() error {
	switch c := t.rest[0]; {
	case c == '\\':
		return t.escape()
	case t.class:
		return t.inClass(c)
	case c == '.':
		t.put(`[^\n\r\x{2028}\x{2029}]`, 1)
	case c == '[':
		return t.begin()
	case strings.HasPrefix(t.rest, "(?") && !strings.HasPrefix(t.rest, "(?:") && !strings.HasPrefix(t.rest, "(?<"):
		return errors.New("RE2 does not have such a group, or ECMA-262 does not")
	default:
		t.put(t.rest[:1], 1)
	}
	return nil
}

// put writes s for the next n bytes.
func (t *translator) put(s string, n int) {
	t.out.WriteString(s)
	t.rest = t.rest[n:]
}

// begin takes the bracket that begins a class.
func (t *translator) begin() error {
	for _, any := range [...]string{`[\s\S]`, `[\S\s]`, `[\d\D]`, `[\D\d]`, `[\w\W]`, `[\W\w]`, `[^]`} {
		if strings.HasPrefix(t.rest, any) {
			t.put(`(?s:.)`, len(any))
			return nil
		}
	}
	if strings.HasPrefix(t.rest, "[]") {
		return errors.New("a class that nothing is in")
	}
	t.class = true
	t.put("[", 1)
	if strings.HasPrefix(t.rest, "^") {
		t.put("^", 1)
	}
	return nil
}

func (t *translator) inClass(c byte) error {
	switch {
	case c == ']':
		t.class = false
	case strings.HasPrefix(t.rest, "[:"):
		return errors.New("a class by name, which ECMA-262 does not have")
	case c == '[':
		t.put(`\[`, 1)
		return nil
	}
	t.put(t.rest[:1], 1)
	return nil
}

// escape takes a backslash and what it escapes.
func (t *translator) escape() error {
	if len(t.rest) == 1 {
		return errors.New("it ends with a backslash")
	}
	c := t.rest[1]
	switch {
	case c == 's' && t.class:
		t.put(spaces, 2)
	case c == 's':
		t.put("["+spaces+"]", 2)
	case c == 'S' && t.class:
		return errors.New(`\S in a class; write what it is not`)
	case c == 'S':
		t.put("[^"+spaces+"]", 2)
	case c == 'b' && t.class:
		t.put(`\x08`, 2)
	case c == '0' && (len(t.rest) == 2 || t.rest[2]-'0' >= 10):
		t.put(`\x00`, 2)
	case c == 'u':
		return t.codePoint()
	case c == 'x' && !strings.HasPrefix(t.rest, `\x{`), (c == 'p' || c == 'P') && len(t.rest) > 2 && t.rest[2] == '{':
		t.put(t.rest[:2], 2)
	case strings.IndexByte("dDwWbBtnrfv", c) >= 0:
		t.put(t.rest[:2], 2)
	case c >= 0x80, c-'0' < 10, c|0x20-'a' < 26:
		return errors.New("RE2 does not have such an escape, or ECMA-262 does not")
	default:
		t.put(t.rest[:2], 2)
	}
	return nil
}

// codePoint takes \uXXXX, of which two may be one character, or \u{X…}.
func (t *translator) codePoint() error {
	if end := strings.IndexByte(t.rest, '}'); strings.HasPrefix(t.rest, `\u{`) && end > 0 {
		if _, err := strconv.ParseUint(t.rest[3:end], 16, 21); err != nil {
			return errors.New("not a code point")
		}
		t.put(`\x{`+t.rest[3:end]+`}`, end+1)
		return nil
	}
	r, ok := unit(t.rest)
	n := 6
	if low, pair := unit(t.rest[min(n, len(t.rest)):]); ok && pair && utf16.IsSurrogate(r) {
		r, n = utf16.DecodeRune(r, low), 12
	}
	if !ok || utf16.IsSurrogate(r) || n == 12 && r == 0xFFFD {
		return errors.New("not a code point")
	}
	t.put(fmt.Sprintf(`\x{%x}`, r), n)
	return nil
}

// unit reads \uXXXX.
func unit(s string) (rune, bool) {
	if len(s) < 6 || s[:2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n), err == nil
}
