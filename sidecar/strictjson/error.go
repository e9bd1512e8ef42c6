package strictjson

import "errors"

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
