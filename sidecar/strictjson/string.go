package strictjson

import (
	"unicode/utf16"
	"unicode/utf8"
)

// string reads a string, of which the opening quote is next.
func (p *parser) string() (string, *Error) {
	p.pos++
	start := p.pos
	for ; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; {
		case c == '"':
			s := p.text[start:p.pos]
			p.pos++
			return s, nil
		case c == '\\':
			return p.escaped([]byte(p.text[start:p.pos]))
		case c < ' ':
			return "", p.fail("control character in a string")
		}
	}
	return "", p.fail("unexpected end")
}

// escaped reads the rest of a string of which s is the part before the first
// escape.
func (p *parser) escaped(s []byte) (string, *Error) {
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == '"':
			p.pos++
			return string(s), nil
		case c < ' ':
			return "", p.fail("control character in a string")
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			s = utf8.AppendRune(s, r)
		default:
			s = append(s, c)
			p.pos++
		}
	}
	return "", p.fail("unexpected end")
}

// escape reads one escape, or two that make a surrogate pair.
func (p *parser) escape() (rune, *Error) {
	if p.pos+1 == len(p.text) {
		return 0, p.fail("unexpected end")
	}
	switch c := p.text[p.pos+1]; c {
	case '"', '\\', '/':
		p.pos += 2
		return rune(c), nil
	case 'b':
		p.pos += 2
		return '\b', nil
	case 'f':
		p.pos += 2
		return '\f', nil
	case 'n':
		p.pos += 2
		return '\n', nil
	case 'r':
		p.pos += 2
		return '\r', nil
	case 't':
		p.pos += 2
		return '\t', nil
	case 'u':
		return p.unicode()
	default:
		return 0, p.fail("unknown escape")
	}
}

func (p *parser) unicode() (rune, *Error) {
	first, ok := hex4(p.text[p.pos:])
	if !ok {
		return 0, p.fail("unknown escape")
	}
	if !utf16.IsSurrogate(first) {
		p.pos += 6
		return first, nil
	}
	second, ok := hex4(p.text[p.pos+6:])
	r := utf16.DecodeRune(first, second)
	if !ok || r == utf8.RuneError {
		return 0, p.fail("lone surrogate")
	}
	p.pos += 12
	return r, nil
}

// hex4 reads \uXXXX at the beginning of s.
func hex4(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var r rune
	for i := 2; i < 6; i++ {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
