package condition

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// valueOf returns the value that text writes, nil if it writes none.
func valueOf(kind byte, text string) ref.Val {
	switch kind {
	case liftedString:
		return types.String(text)
	case liftedInt:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return types.Int(n)
		}
	case liftedDouble:
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return types.Double(f)
		}
	case liftedTime:
		if v, ok := types.String(text).ConvertToType(types.TimestampType).(types.Timestamp); ok {
			return v
		}
	case liftedDuration:
		if v, ok := types.String(text).ConvertToType(types.DurationType).(types.Duration); ok {
			return v
		}
	}
	return nil
}

// elementsOf reads "[a, b]" of constants of one kind; n is its length, 0 if s
// begins with something else.
func elementsOf(s string) (kind byte, elements []string, n int) {
	n = 1
	for {
		n += space(s[n:])
		if n == len(s) {
			return 0, nil, 0
		}
		var k byte
		var length int
		var ok bool
		text := ""
		switch c := s[n]; {
		case c == '"' || c == '\'':
			k = liftedString
			text, length, ok = quoted(s[n:])
		case isDigit(c):
			k, length, ok = numeral(s[n:])
			text = s[n:][:length]
			ok = ok && k == liftedInt && length <= 18
		}
		if !ok || len(text) > maxLifted || kind != 0 && k != kind {
			return 0, nil, 0
		}
		kind, elements = k, append(elements, text)
		n += length
		n += space(s[n:])
		switch {
		case n < len(s) && s[n] == ',':
			n++
		case n < len(s) && s[n] == ']':
			return kind, elements, n + 1
		default:
			return 0, nil, 0
		}
	}
}

// integers converts texts that numeral has read.
func integers(texts []string) []int64 {
	list := make([]int64, len(texts))
	for i, t := range texts {
		list[i], _ = strconv.ParseInt(t, 10, 64)
	}
	return list
}

func space(s string) int { return len(s) - len(strings.TrimLeft(s, " \t\n\r")) }

// quoted reads a string that has neither escapes nor control characters; n is
// its length with the quotes.
func quoted(s string) (text string, n int, ok bool) {
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == s[0]:
			// Two quotes may open a string of three.
			if i == 1 && len(s) > 2 && s[2] == s[0] {
				return "", 0, false
			}
			return s[1:i], i + 1, utf8.ValidString(s[1:i])
		case c == '\\' || c < ' ':
			return "", 0, false
		}
	}
	return "", 0, false
}

// literalArgument reads ("…"); n is its length. n is 0 if s begins with no call,
// or with one whose argument is no literal. ok is false if that cannot be told.
func literalArgument(s string) (text string, n int, ok bool) {
	if strings.HasPrefix(s, `("`) || strings.HasPrefix(s, "('") {
		text, n, ok = quoted(s[1:])
		return text, n + 2, ok && strings.HasPrefix(s[1+n:], ")")
	}
	argument, call := strings.CutPrefix(s[space(s):], "(")
	if !call {
		return "", 0, true
	}
	argument = argument[space(argument):]
	return "", 0, argument == "" || argument[0] == ')' || isLetter(argument[0])
}

// numeral reads a decimal integer, or two with a point between them; n is its
// length.
func numeral(s string) (kind byte, n int, ok bool) {
	kind = liftedInt
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	if n < len(s) && s[n] == '.' {
		kind = liftedDouble
		whole := n
		n++
		for n < len(s) && isDigit(s[n]) {
			n++
		}
		if n == whole+1 {
			return 0, 0, false
		}
	}
	if n < len(s) && (isLetter(s[n]) || s[n] == '.') {
		return 0, 0, false
	}
	return kind, n, true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' }
