package word

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind returns why a person would not see r in a text; empty if they would.
func Kind(r rune) string {
	switch {
	case r >= 0xE0000 && r <= 0xE007F:
		return "tag character"
	case r == '\u061c', r >= '\u200e' && r <= '\u200f', r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
		return "bidirectional control"
	case r >= '\ufe00' && r <= '\ufe0f', r >= 0xE0100 && r <= 0xE01EF, r >= '\u180b' && r <= '\u180f' && r != '\u180e':
		return "variation selector"
	case r == 0x1b, r == 0x9b:
		return "terminal escape"
	case r == '\n', r == '\t', r == '\r':
		return ""
	case r < ' ', r >= 0x7f && r < 0xa0:
		return "control character"
	case r == '\u00ad', r == '\u034f', r == '\u115f', r == '\u1160', r == '\u17b4', r == '\u17b5', r == '\u180e', r == '\u2800', r == '\u3164', r == '\uffa0',
		r >= '\u200b' && r <= '\u200d', r >= '\u2060' && r <= '\u2065', r >= '\u206a' && r <= '\u206f', r == '\ufeff', r == '\u2028', r == '\u2029',
		r >= 0x1D173 && r <= 0x1D17A, r >= '\ufff9' && r <= '\ufffb', unicode.Is(unicode.Cf, r):
		return "zero width"
	case unicode.Is(unicode.Co, r), unicode.Is(unicode.Noncharacter_Code_Point, r):
		return "character without a meaning"
	default:
		return ""
	}
}

// Show returns at most about limit bytes of a text, with what a person would
// not see, and ends of lines, as escapes.
func Show(s string, limit int) string {
	var b strings.Builder
	for i, r := range s {
		if b.Len() >= limit && i < len(s) {
			b.WriteRune('…')
			break
		}
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case Kind(r) == "" && r != utf8.RuneError:
			b.WriteRune(r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
