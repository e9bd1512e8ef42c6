// Package message reads JSON-RPC messages as MCP uses them. What an agent
// sends is parsed whole and strictly, because it is decided on and written
// again. What a server sends is opened only as far as it must be understood,
// and otherwise passed on as it came.
package message

import (
	"strconv"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// A Kind is a kind of message.
type Kind uint8

// The kinds.
const (
	Request Kind = iota + 1
	Notification
	Response
)

// The codes of JSON-RPC and MCP.
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
	// CodeDenied is ours: a call that was denied. SDKs keep codes to themselves
	// that would turn a denial into something else: -32000 and -32001
	// (TypeScript: closed, timed out), -32001 to -32005 (Go: -32003 closes the
	// connection); -32020 and below is the specification's.
	CodeDenied = -32010
	// CodeHeaderMismatch is for headers that contradict the message.
	CodeHeaderMismatch = -32020
)

// An Error is why a message was not accepted.
type Error struct {
	Code int
	// Problem is a sentence for who sent the message.
	Problem string
}

// Error returns the problem.
func (e *Error) Error() string { return e.Problem }

// An ID is the id of a request in the one form by which ids are compared. The
// zero ID is none.
type ID struct {
	// text is the id as JSON.
	text string
}

// IsZero reports whether there is no id.
func (id ID) IsZero() bool { return id.text == "" }

// JSON returns the id as it is sent; null if there is none.
func (id ID) JSON() string {
	if id.IsZero() {
		return "null"
	}
	return id.text
}

// maxID is the longest string that can be an ID, in bytes: ids are remembered.
const maxID = 1 << 10

// newID makes an ID of a parsed value; ok is false if the value cannot be one.
func newID(v strictjson.Value) (id ID, ok bool) {
	switch v := v.(type) {
	case string:
		if len(v) > maxID {
			return ID{}, false
		}
		return ID{string(strictjson.Append(nil, v))}, true
	case int64:
		return ID{strconv.FormatInt(v, 10)}, true
	default:
		return ID{}, false
	}
}

// A Message is one message from an agent, or one from a server that must be
// decided on. It is immutable.
type Message struct {
	Kind Kind
	// ID is zero for a notification.
	ID ID
	// Method is empty for a response.
	Method string
	// Params are the parameters; nil is none.
	Params *strictjson.Object
	// Failed says that a response carries an error.
	Failed bool

	object *strictjson.Object
}

// Append adds the message to dst, written from what was parsed.
func (m *Message) Append(dst []byte) []byte { return strictjson.Append(dst, m.object) }

// With returns the message with a value in the place of the parameter called key,
// which it must have.
func (m *Message) With(key string, value strictjson.Value) *Message {
	next := *m
	next.Params = replaced(m.Params, key, value)
	next.object = replaced(m.object, "params", next.Params)
	return &next
}

func replaced(o *strictjson.Object, key string, value strictjson.Value) *strictjson.Object {
	members := make([]strictjson.Member, 0, o.Len())
	for k, v := range o.All() {
		if k == key {
			v = value
		}
		members = append(members, strictjson.Member{Key: k, Value: v})
	}
	return strictjson.NewObject(members...)
}

// envelope are the members of a message that have a meaning.
var envelope = []string{"jsonrpc", "id", "method", "params", "result", "error"}

// Parse reads one message strictly. Whatever two readers could understand
// differently is refused. The error is an *Error; a message returned with it
// has nothing but the ID and the method, if those could be read.
func Parse(data []byte, limits strictjson.Limits) (*Message, error) {
	v, err := strictjson.Parse(data, limits)
	if err != nil {
		return &Message{}, &Error{CodeParse, "the message is not acceptable: " + err.Error()}
	}
	o, ok := v.(*strictjson.Object)
	if !ok {
		if _, ok := v.([]strictjson.Value); ok {
			return &Message{}, &Error{CodeInvalidRequest, "batches are not accepted: send each message by itself"}
		}
		return &Message{}, &Error{CodeInvalidRequest, "the message is not a JSON object"}
	}
	m := &Message{object: o}
	m.Method, _ = o.String("method")
	id, hasID := o.Get("id")
	if hasID {
		m.ID, ok = newID(id)
		if !ok {
			return m, &Error{CodeInvalidRequest, "id must be a string of at most 1024 bytes or an integer"}
		}
	}
	return m, m.read(hasID)
}

// read sets the rest of the message, and says what is wrong with it. Its nil is
// a nil error.
func (m *Message) read(hasID bool) error {
	o := m.object
	if name := lookalike(o, envelope); name != "" {
		m.Method = "" // or the other
		return &Error{CodeInvalidRequest, "member " + strconv.Quote(name) + " differs only in case from one that has a meaning"}
	}
	if v, _ := o.String("jsonrpc"); v != "2.0" {
		return &Error{CodeInvalidRequest, `jsonrpc must be "2.0"`}
	}
	method, hasMethod := o.Get("method")
	_, hasResult := o.Get("result")
	_, hasError := o.Get("error")
	switch {
	case hasMethod && (hasResult || hasError):
		return &Error{CodeInvalidRequest, "a message is a request or a response, not both"}
	case hasResult && hasError:
		return &Error{CodeInvalidRequest, "a response has a result or an error, not both"}
	case !hasMethod && !hasResult && !hasError:
		return &Error{CodeInvalidRequest, "a message has a method, a result or an error"}
	case !hasMethod && !hasID:
		return &Error{CodeInvalidRequest, "a response has an id"}
	case !hasMethod:
		if _, ok := o.Get("params"); ok {
			return &Error{CodeInvalidRequest, "a response has no params"}
		}
		m.Kind, m.Failed = Response, hasError
		return nil
	}
	var ok bool
	if m.Method, ok = method.(string); !ok || m.Method == "" {
		return &Error{CodeInvalidRequest, "method must be a string that is not empty"}
	}
	m.Kind = Notification
	if hasID {
		m.Kind = Request
	}
	switch params, _ := o.Get("params"); params := params.(type) {
	case nil:
	case *strictjson.Object:
		m.Params = params
	default:
		return &Error{CodeInvalidRequest, "params must be an object"}
	}
	return nil
}

// Ambiguous returns a member of o whose name differs only in case from one of
// names or, if names is empty, one anywhere in o whose name so differs from
// another of the same object: some readers take the one for the other. It returns
// "" if there is none.
func Ambiguous(o *strictjson.Object, names ...string) string {
	if len(names) > 0 {
		return lookalike(o, names)
	}
	return twin(o)
}

// twin returns a member anywhere in v that has a lookalike beside it.
func twin(v strictjson.Value) string {
	switch v := v.(type) {
	case []strictjson.Value:
		for _, e := range v {
			if key := twin(e); key != "" {
				return key
			}
		}
	case *strictjson.Object:
		folded := make(map[string]struct{}, v.Len())
		for key, value := range v.All() {
			lower := strings.ToLower(strings.ToUpper(key))
			if _, ok := folded[lower]; ok {
				return key
			}
			folded[lower] = struct{}{}
			if key := twin(value); key != "" {
				return key
			}
		}
	}
	return ""
}

func lookalike(o *strictjson.Object, names []string) string {
	for key := range o.All() {
		if isLookalike(key, names) {
			return key
		}
	}
	return ""
}

func isLookalike(key string, names []string) bool {
	for _, name := range names {
		if key != name && strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}
