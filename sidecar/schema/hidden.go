package schema

import (
	"unicode"
	"unicode/utf8"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/rule"
	"github.com/reeve-authz/reeve/sidecar/schema/internal/word"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// A Finding is text that a person who reads a definition would not see.
type Finding struct {
	// Path is where, as in a Difference. What is in a member's name is found at
	// the member.
	Path string
	// Kind is what it is: "zero width", "bidirectional control", "tag
	// character", "variation selector", "terminal escape", "control character",
	// "character without a meaning" or "long blank".
	Kind string
	// Shown is the text around it, shortened, with what does not show as escapes.
	Shown string
}

const (
	// MaxFindings is how many findings Hidden lists at most.
	MaxFindings = 100
	// longBlank is how much white space pushes what follows out of sight, in
	// characters.
	longBlank = 80
)

// Hidden lists text in a definition that no person would see and a model might
// obey, one finding for each kind at each place. A definition without any is
// not thereby harmless. The error wraps ErrInvalid.
func Hidden(text string) ([]Finding, error) {
	o, err := definition(text)
	if err != nil {
		return nil, err
	}
	var f findings
	f.value("", o)
	return f.found, nil
}

type findings struct{ found []Finding }

func (f *findings) value(path string, v strictjson.Value) {
	switch v := v.(type) {
	case string:
		f.text(path, v)
	case []strictjson.Value:
		for i, e := range v {
			f.value(path+rule.Index(i), e)
		}
	case *strictjson.Object:
		for name, e := range v.All() {
			below := path + rule.Step(name, path == "")
			f.text(below, name)
			f.value(below, e)
		}
	}
}

// text looks at one string.
func (f *findings) text(path, s string) {
	seen := make(map[string]bool)
	note := func(kind string, at int) {
		if kind == "" || seen[kind] || len(f.found) == MaxFindings {
			return
		}
		seen[kind] = true
		f.found = append(f.found, Finding{path, kind, around(s, at)})
	}
	var last rune
	blank := 0
	for i, r := range s {
		if !ofEmoji(last, r, s[i:]) {
			note(word.Kind(r), i)
		}
		if blank++; !unicode.IsSpace(r) {
			blank = 0
		}
		if blank == longBlank {
			note("long blank", i)
		}
		last = r
	}
}

// ofEmoji reports whether r, with which rest begins, only says how the symbol
// before it looks, or joins two symbols to one.
func ofEmoji(last, r rune, rest string) bool {
	const picture, joiner = '\ufe0f', '\u200d'
	switch r {
	case picture:
		return unicode.IsSymbol(last)
	case joiner:
		next, _ := utf8.DecodeRuneInString(rest[utf8.RuneLen(joiner):])
		return (unicode.IsSymbol(last) || last == picture) && unicode.IsSymbol(next)
	default:
		return false
	}
}

// around shows what is around a byte of a text.
func around(s string, at int) string {
	start := max(0, at-shownContext)
	for !utf8.RuneStart(s[start]) {
		start--
	}
	shown := word.Show(s[start:], 2*shownContext)
	if start > 0 {
		shown = "…" + shown
	}
	return shown
}
