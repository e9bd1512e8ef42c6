package strictjson

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Append adds the compact encoding of v to dst, members in their order. Parse
// reads it back as v. A Go value that is not a Value is written as null.
func Append(dst []byte, v Value) []byte { return appendValue(dst, v, false) }

// Canonical adds the encoding of v by RFC 8785 to dst: members sorted, numbers
// and strings in the one form that rule gives them. It is for digests.
func Canonical(dst []byte, v Value) []byte { return appendValue(dst, v, true) }

// appendValue writes numbers and strings as RFC 8785 does in either case, since
// any form would do for Append.
func appendValue(dst []byte, v Value, sorted bool) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		return appendString(dst, v)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case float64:
		return appendFloat(dst, v)
	case []Value:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, e, sorted)
		}
		return append(dst, ']')
	case *Object:
		return appendObject(dst, v, sorted)
	default:
		return append(dst, "null"...)
	}
}

func appendObject(dst []byte, o *Object, sorted bool) []byte {
	var members []Member
	if o != nil {
		members = o.members
	}
	if sorted && !slices.IsSortedFunc(members, byUTF16) {
		members = slices.Clone(members)
		slices.SortFunc(members, byUTF16)
	}
	dst = append(dst, '{')
	for i := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, members[i].Key)
		dst = append(dst, ':')
		dst = appendValue(dst, members[i].Value, sorted)
	}
	return append(dst, '}')
}

// byUTF16 compares keys by UTF-16 code units. That is the order of bytes, but
// for surrogates, which sort below U+E000.
func byUTF16(a, b Member) int {
	x, y := a.Key, b.Key
	i := 0
	for i < len(x) && i < len(y) && x[i] == y[i] {
		i++
	}
	for i > 0 && i < len(x) && !utf8.RuneStart(x[i]) {
		i--
	}
	r, s := firstRune(x[i:]), firstRune(y[i:])
	if first, second := unit(r), unit(s); first != second {
		return cmp.Compare(first, second)
	}
	return strings.Compare(x, y)
}

func firstRune(s string) rune {
	if s == "" {
		return -1
	}
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// unit returns the first UTF-16 code unit of r.
func unit(r rune) rune {
	if high, _ := utf16.EncodeRune(r); high != utf8.RuneError {
		return high
	}
	return r
}

// appendFloat writes f as ECMAScript does.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if f == 0 {
		return append(dst, '0')
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go writes at least two digits of exponent, ECMAScript as many as it needs.
	if n := len(dst); dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendString writes s with the shortest escapes, and only where JSON demands
// one. What is not UTF-8 becomes U+FFFD; Parse returns no such string.
func appendString(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
