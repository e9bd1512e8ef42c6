package strictjson

import (
	"strings"
	"unicode/utf8"
)

// Limits bound what Parse accepts. A zero field means its default.
type Limits struct {
	// Depth is how deep arrays and objects may nest. Default 64.
	Depth int
	// Size is how long the text may be, in bytes. Default 4 MiB.
	Size int
	// Members is how many members and elements all objects and arrays may have
	// together. Default 100,000.
	Members int
}

// Parse reads the one value that data holds. The result does not refer to
// data. Every error is an *Error.
func Parse(data []byte, limits Limits) (Value, error) {
	if limits.Depth == 0 {
		limits.Depth = 64
	}
	if limits.Size == 0 {
		limits.Size = 4 << 20
	}
	if limits.Members == 0 {
		limits.Members = 100_000
	}
	if len(data) > limits.Size {
		return nil, &Error{Offset: limits.Size, Problem: "text is too long"}
	}
	if !utf8.Valid(data) {
		return nil, &Error{Offset: invalidUTF8(data), Problem: "invalid UTF-8"}
	}
	p := parser{text: string(data), limits: limits}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos < len(p.text) {
		return nil, p.fail("more than one value")
	}
	return v, nil
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(data)
}

// A parser reads one text from left to right. Its methods return *Error rather
// than error so that the path can grow on the way out; none returns a nil
// *Error as an error.
type parser struct {
	text   string // valid UTF-8; strings without escapes are cut from it
	pos    int
	limits Limits
	used   int // members and elements so far
	// members and elements of the containers that are still open, innermost
	// last, so that each container is allocated once at its final size.
	members  []Member
	elements []Value
}

func (p *parser) fail(problem string) *Error {
	return &Error{Offset: p.pos, Problem: problem}
}

// space skips white space.
func (p *parser) space() {
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case ' ', '\n', '\t', '\r':
			p.pos++
		default:
			return
		}
	}
}

// next skips white space and returns the byte that follows; 0 at the end, as
// for a NUL, which begins nothing.
func (p *parser) next() byte {
	p.space()
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

func (p *parser) value(depth int) (Value, *Error) {
	switch c := p.next(); c {
	case '{':
		if depth == p.limits.Depth {
			return nil, p.fail("nested too deep")
		}
		return p.object(depth + 1)
	case '[':
		if depth == p.limits.Depth {
			return nil, p.fail("nested too deep")
		}
		return p.array(depth + 1)
	case '"':
		s, err := p.string()
		if err != nil {
			return nil, err
		}
		return s, nil
	case 't':
		return true, p.word("true")
	case 'f':
		return false, p.word("false")
	case 'n':
		return nil, p.word("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return p.number()
	default:
		if p.pos == len(p.text) {
			return nil, p.fail("unexpected end")
		}
		return nil, p.fail("not a value")
	}
}

func (p *parser) word(word string) *Error {
	if !strings.HasPrefix(p.text[p.pos:], word) {
		return p.fail("not a value")
	}
	p.pos += len(word)
	return nil
}

// count accounts for one more member or element.
func (p *parser) count() *Error {
	if p.used++; p.used > p.limits.Members {
		return p.fail("too many members")
	}
	return nil
}

// more reports whether another member or element follows, after at least one.
func (p *parser) more(closing byte) (bool, *Error) {
	switch c := p.next(); {
	case c == ',':
		p.pos++
		return true, nil
	case c == closing:
		p.pos++
		return false, nil
	case p.pos == len(p.text):
		return false, p.fail("unexpected end")
	default:
		return false, p.fail("want a comma or the end of the container")
	}
}

func (p *parser) object(depth int) (Value, *Error) {
	p.pos++
	base := len(p.members)
	if p.next() == '}' {
		p.pos++
		return &Object{}, nil
	}
	var index map[string]int
	for more := true; more; {
		if err := p.count(); err != nil {
			return nil, err
		}
		if p.next() != '"' {
			return nil, p.fail("want a member's name")
		}
		at := p.pos
		key, err := p.string()
		if err != nil {
			return nil, err
		}
		if duplicate(p.members[base:], index, key) {
			p.pos = at
			return nil, p.fail("duplicate key").under(key)
		}
		if p.next() != ':' {
			return nil, p.fail("want a colon")
		}
		p.pos++
		v, err := p.value(depth)
		if err != nil {
			return nil, err.under(key)
		}
		p.members = append(p.members, Member{key, v})
		index = extend(index, p.members[base:])
		if more, err = p.more('}'); err != nil {
			return nil, err
		}
	}
	members := make([]Member, len(p.members)-base)
	copy(members, p.members[base:])
	clear(p.members[base:])
	p.members = p.members[:base]
	return &Object{members: members, index: index}, nil
}

func duplicate(members []Member, index map[string]int, key string) bool {
	if index != nil {
		_, ok := index[key]
		return ok
	}
	for i := range members {
		if members[i].Key == key {
			return true
		}
	}
	return false
}

// extend takes the last of members into the index, and begins one when there
// are too many to scan.
func extend(index map[string]int, members []Member) map[string]int {
	last := len(members) - 1
	if index != nil {
		index[members[last].Key] = last
		return index
	}
	if len(members) <= scanned {
		return nil
	}
	return indexOf(members)
}

func (p *parser) array(depth int) (Value, *Error) {
	p.pos++
	base := len(p.elements)
	if p.next() == ']' {
		p.pos++
		return []Value{}, nil
	}
	for more := true; more; {
		if err := p.count(); err != nil {
			return nil, err
		}
		v, err := p.value(depth)
		if err != nil {
			return nil, err.underIndex(len(p.elements) - base)
		}
		p.elements = append(p.elements, v)
		if more, err = p.more(']'); err != nil {
			return nil, err
		}
	}
	elements := make([]Value, len(p.elements)-base)
	copy(elements, p.elements[base:])
	clear(p.elements[base:])
	p.elements = p.elements[:base]
	return elements, nil
}
