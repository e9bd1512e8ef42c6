package schema

// A Difference is one place at which two definitions differ.
type Difference struct {
	// Path is such as inputSchema.properties.to.type or items[2].
	Path string
	// Before and After are the values as JSON, shortened, with characters that
	// do not show written as escapes; empty where there is none.
	Before, After string
}

// MaxDifferences is how many differences Diff lists; the last one says that
// there are more.
const MaxDifferences = 100

// Diff lists where two definitions differ, for people, in the order of the
// paths. Either may be empty. The error wraps ErrInvalid.
func Diff(before, after string) ([]Difference, error) { return nil, nil }

// A Finding is text that a person who reads a definition would not see.
type Finding struct {
	// Path is where, as in a Difference. A key is found at its own path.
	Path string
	// Kind is what it is: "bidirectional control", "zero width", "tag
	// character", "terminal escape", "control character", "variation selector".
	Kind string
	// Shown is the text around it, shortened, with what does not show as escapes.
	Shown string
}

// Hidden lists text in a definition that no person would see and a model
// might obey. An error wraps ErrInvalid.
func Hidden(definition string) ([]Finding, error) { return nil, nil }
