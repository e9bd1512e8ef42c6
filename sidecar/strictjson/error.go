package strictjson

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrInvalid is wrapped by every error of this package.
var ErrInvalid = errors.New("invalid JSON")

// An Error says where a text stopped being acceptable, and why.
type Error struct {
	// Path is the JSON pointer (RFC 6901) of the value concerned; empty for the
	// text as a whole.
	Path string
	// Offset is the byte at which the text was refused.
	Offset int
	// Problem is stable, lower case, and never quotes the text.
	Problem string
}

// Error returns "invalid JSON at /params/name: duplicate key".
func (e *Error) Error() string {
	if e.Path == "" {
		return "invalid JSON: " + e.Problem
	}
	return "invalid JSON at " + e.Path + ": " + e.Problem
}

// Unwrap returns ErrInvalid.
func (e *Error) Unwrap() error { return ErrInvalid }

// maxSegment bounds what one key adds to a path, in bytes.
const maxSegment = 64

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// under puts key in front of the path.
func (e *Error) under(key string) *Error {
	if len(key) > maxSegment {
		end := maxSegment
		for !utf8.RuneStart(key[end]) {
			end--
		}
		key = key[:end] + "…"
	}
	e.Path = "/" + pointer.Replace(key) + e.Path
	return e
}

// underIndex puts the index of an element in front of the path.
func (e *Error) underIndex(i int) *Error {
	e.Path = "/" + strconv.Itoa(i) + e.Path
	return e
}
