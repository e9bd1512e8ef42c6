package strictjson

import (
	"math"
	"strconv"
	"strings"
)

// maxInteger is the largest integer below which every integer is a float64.
const maxInteger = 1<<53 - 1

// number reads a number, of which the first byte is next.
func (p *parser) number() (Value, *Error) {
	start, text := p.pos, p.text
	i := start
	if text[i] == '-' {
		i++
	}
	whole := i
	i = digits(text, i)
	if i == whole || text[whole] == '0' && i > whole+1 {
		return nil, p.fail("not a number")
	}
	if plain := i - whole; plain <= 15 && (i == len(text) || text[i] != '.' && text[i]|0x20 != 'e') {
		p.pos = i
		return integer(text[whole:i], whole > start), nil
	}
	if i < len(text) && text[i] == '.' {
		fraction := i + 1
		if i = digits(text, fraction); i == fraction {
			return nil, p.fail("not a number")
		}
	}
	if i < len(text) && text[i]|0x20 == 'e' {
		i++
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		exponent := i
		if i = digits(text, i); i == exponent {
			return nil, p.fail("not a number")
		}
	}
	v, problem := convert(text[start:i])
	if problem != "" {
		return nil, p.fail(problem)
	}
	p.pos = i
	return v, nil
}

// digits returns the position after the decimal digits of s from i on.
func digits(s string, i int) int {
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	return i
}

// integer converts at most 16 decimal digits.
func integer(digits string, negative bool) int64 {
	var n int64
	for i := range len(digits) {
		n = n*10 + int64(digits[i]-'0')
	}
	if negative {
		return -n
	}
	return n
}

// convert converts a number of any form. It is an int64 if it is an integer as
// a decimal, and otherwise a float64 whose shortest form is that decimal.
func convert(text string) (Value, string) {
	d := decimalOf(text)
	if d.digits == "" {
		return int64(0), ""
	}
	if d.exponent >= 0 {
		if d.exponent > 16 || len(d.digits)+d.exponent > 16 {
			return nil, "integer beyond ±(2^53-1)"
		}
		n := integer(d.digits+strings.Repeat("0", d.exponent), d.negative)
		if n > maxInteger || n < -maxInteger {
			return nil, "integer beyond ±(2^53-1)"
		}
		return n, ""
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, "number out of range"
	}
	if decimalOf(strconv.FormatFloat(f, 'e', -1, 64)) != d {
		return nil, "number has more digits than a float64 can hold"
	}
	return f, ""
}

// A decimal is digits × 10^exponent, with neither leading nor trailing zeros in
// digits. Zero has none.
type decimal struct {
	digits   string
	exponent int
	negative bool
}

// maxExponent stands for every exponent that is too large to matter.
const maxExponent = 1 << 30

// decimalOf takes a valid JSON number apart.
func decimalOf(text string) decimal {
	var d decimal
	text, d.negative = strings.CutPrefix(text, "-")
	mantissa := text
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa = text[:i]
		d.exponent = exponentOf(text[i+1:])
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	d.exponent -= len(fraction)
	d.digits = strings.TrimLeft(whole+fraction, "0")
	trimmed := strings.TrimRight(d.digits, "0")
	d.exponent += len(d.digits) - len(trimmed)
	d.digits = trimmed
	return d
}

func exponentOf(text string) int {
	digits, negative := strings.CutPrefix(text, "-")
	n, err := strconv.Atoi(strings.TrimPrefix(digits, "+"))
	if err != nil || n > maxExponent {
		n = maxExponent
	}
	if negative {
		return -n
	}
	return n
}
