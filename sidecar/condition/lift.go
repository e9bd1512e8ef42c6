package condition

import (
	"strings"

	"cel.dev/cel-go/common/types/ref"
)

// The kinds of constants that are lifted, as they stand in a template's key.
const (
	liftedString   = 's'
	liftedInt      = 'i'
	liftedDouble   = 'd'
	liftedTime     = 't'
	liftedDuration = 'u'
	liftedStrings  = 'S'
	liftedInts     = 'I'
)

const (
	// placeholder precedes a kind in a key. Conditions cannot contain it.
	placeholder = 0
	// slots is how many constants of all kinds are lifted out of one condition.
	slots = 32
	// maxLifted is the longest string that is lifted, in bytes. Longer ones stay
	// in the template, where their own length counts as cost.
	maxLifted = 256
)

// lift takes the constants out of a condition. Two conditions with equal keys
// are the same but for the values of their constants, so that if one is well
// typed the other is, and one program serves both. Where it is not sure what
// it reads, it takes nothing out, and the key is the condition itself.
// The key is appended to dst.
func lift(dst []byte, expr string) (key []byte, constants []constant) {
	if len(expr) > maxLength {
		return append(dst, expr...), nil
	}
	l := lifter{rest: expr, key: dst}
	for l.rest != "" {
		if !l.token() {
			return append(dst[:0], expr...), nil
		}
	}
	return l.key, l.constants
}

// A lifter copies a condition into a key, token by token.
type lifter struct {
	rest      string
	key       []byte
	constants []constant
	// last is the token before this one: an identifier, or one byte.
	last string
}

// token takes one token and reports whether it understood it.
func (l *lifter) token() bool {
	c := l.rest[0]
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		l.rest = strings.TrimLeft(l.rest, " \t\n\r")
		l.key = append(l.key, ' ')
		return true
	case isLetter(c):
		return l.word()
	case c == '"' || c == '\'':
		s, n, ok := quoted(l.rest)
		if !ok {
			return false
		}
		l.put(liftedString, s, n)
		return true
	case isDigit(c):
		kind, n, ok := numeral(l.rest)
		if !ok || l.last == "." {
			return false
		}
		l.put(kind, l.rest[:n], n)
		return true
	case c == '[':
		return l.list()
	case strings.IndexByte("]{}().,-!?:+*/%=<>&|", c) >= 0:
		if strings.HasPrefix(l.rest, "//") {
			return false
		}
		l.copy(1)
		return true
	default:
		return false
	}
}

// copy moves n bytes, one token, into the key.
func (l *lifter) copy(n int) {
	l.last = l.rest[:n]
	l.key = append(l.key, l.last...)
	l.rest = l.rest[n:]
}

func (l *lifter) word() bool {
	n := 1
	for n < len(l.rest) && (isLetter(l.rest[n]) || isDigit(l.rest[n])) {
		n++
	}
	word, after := l.rest[:n], l.rest[n:]
	if strings.HasPrefix(word, "__") || after != "" && (after[0] == '"' || after[0] == '\'') {
		return false
	}
	if word == "timestamp" || word == "duration" || word == "matches" || isGetter(word) {
		return l.checked(word, after)
	}
	l.copy(n)
	return true
}

// checked takes the name of a function whose argument is checked if it is a
// literal, and then the literal with it: timestamp("…") and duration("…") are
// lifted as a whole, and the others copied.
func (l *lifter) checked(word, after string) bool {
	s, n, ok := literalArgument(after)
	switch {
	case !ok:
		return false
	case n > 0 && l.last != "." && word == "timestamp":
		l.put(liftedTime, s, len(word)+n)
	case n > 0 && l.last != "." && word == "duration":
		l.put(liftedDuration, s, len(word)+n)
	default:
		l.copy(len(word) + n)
	}
	return true
}

// list lifts a list of constants of one kind, or copies its bracket.
func (l *lifter) list() bool {
	// After an operand the bracket is an index, and an index is structure.
	operand := l.last != "" && l.last != "in" &&
		(isLetter(l.last[0]) || l.last == ")" || l.last == "]" || l.last == "}")
	kind, elements, n := elementsOf(l.rest)
	switch {
	case operand && n > 0 && len(elements) == 1:
		l.copy(n)
		l.last = "]"
	// Only "in" does not care how long the list is.
	case l.last != "in" || n == 0 || len(l.constants) == slots:
		l.copy(1)
	case kind == liftedString:
		l.lift(liftedStrings, newSet(elements), n)
	default:
		l.lift(liftedInts, newSet(integers(elements)), n)
	}
	return true
}

// put lifts the constant that the next n bytes write, or copies them if it has
// to stay.
func (l *lifter) put(kind byte, text string, n int) {
	if len(l.constants) == slots || len(text) > maxLifted {
		l.copy(n)
		return
	}
	if v := valueOf(kind, text); v != nil {
		l.lift(kind, v, n)
		return
	}
	l.copy(n)
}

func (l *lifter) lift(kind byte, v ref.Val, n int) {
	l.constants = append(l.constants, constant{plain: plainOf(v), value: v})
	l.key = append(l.key, placeholder, kind)
	l.rest = l.rest[n:]
	l.last = ")"
}
