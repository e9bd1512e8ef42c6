package wire

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A Kind is a kind of message.
type Kind uint8

// The kinds.
const (
	Request Kind = iota + 1
	Notification
	Response
)

// The members of _meta that say what a message belongs to.
const (
	metaSubscription = "io.modelcontextprotocol/subscriptionId"
	metaTask         = "io.modelcontextprotocol/related-task"
	metaVersion      = "io.modelcontextprotocol/protocolVersion"
)

// A Value is a JSON value as it stands in a message. The zero Value is none.
type Value struct {
	// Text is the value as it came. It shares the message's memory.
	Text []byte
	from int
}

// Is reports whether there is a value.
func (v Value) Is() bool { return v.Text != nil }

// Int returns the value as an integer, and whether it is one.
func (v Value) Int() (int64, bool) {
	n, err := strconv.ParseInt(string(v.Text), 10, 64)
	return n, err == nil
}

// String returns the value as a string; empty if it is none.
func (v Value) String() string {
	text, err := jsontext.AppendUnquote(nil, v.Text)
	if err != nil {
		return ""
	}
	return string(text)
}

// A Message is one message, opened as far as it must be understood to know
// where it belongs.
type Message struct {
	// Text is the whole message.
	Text []byte
	Kind Kind
	// Method is empty for a response.
	Method string
	// Failed says that a response carries an error.
	Failed bool
	// ID is that of a request or response.
	ID Value
	// Token is by what the progress of a request is to be told, and Progress
	// what a notification of progress calls it.
	Token, Progress Value
	// Cancelled is the request that a notification cancels.
	Cancelled Value
	// Subscription is the request that opened the subscription to which a
	// notification or a result belongs.
	Subscription Value
	// Task is the task that a message is about.
	Task Value
	// Version is the protocol version that a request says it is of, or that the
	// answer to initialize settles.
	Version Value
	// Name and URI are what a request is about.
	Name, URI Value
}

var (
	errAmbiguous = errors.New("it can be read in two ways")
	errNoMessage = errors.New("it is not a JSON-RPC message")
)

// Open opens one message. What it does not look at may be anything that is JSON.
func Open(text []byte) (Message, error) {
	m := Message{Text: text}
	d := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	o := opening{m: &m, d: d}
	if err := o.members(o.envelope); err != nil {
		return m, err
	}
	if d.PeekKind() != 0 {
		return m, errNoMessage // something follows it
	}
	return m, o.classify()
}

// An opening is a message that is being opened.
type opening struct {
	m                         *Message
	d                         *jsontext.Decoder
	method, version           Value
	hasResult, hasError, hasP bool
}

func (o *opening) classify() error {
	m := o.m
	m.Method, m.Failed = o.method.String(), o.hasError
	switch {
	case o.version.String() != "2.0", o.method.Is() == (o.hasResult || o.hasError), o.hasResult && o.hasError:
		return errNoMessage
	case o.method.Is() && m.Method == "":
		return errNoMessage
	case o.method.Is() && m.ID.Is():
		m.Kind = Request
	case o.method.Is():
		m.Kind = Notification
	case !m.ID.Is():
		return errNoMessage
	default:
		m.Kind = Response
	}
	return nil
}

// members reads an object and calls each with the name of every member; each
// must read the value. Anything else than an object is an error.
func (o *opening) members(each func(name string) error) error {
	if o.d.PeekKind() != '{' {
		return errNoMessage
	}
	if _, err := o.d.ReadToken(); err != nil {
		return err
	}
	for o.d.PeekKind() == '"' {
		name, err := o.d.ReadToken()
		if err != nil {
			return err
		}
		if err := each(name.String()); err != nil {
			return err
		}
	}
	_, err := o.d.ReadToken()
	return err
}

// optional is members for a value that is skipped if it is no object.
func (o *opening) optional(each func(name string) error) error {
	if o.d.PeekKind() != '{' {
		return o.d.SkipValue()
	}
	return o.members(each)
}

// value reads a value into v. No name may occur twice of those that are read.
func (o *opening) value(v *Value) error {
	raw, err := o.d.ReadValue()
	if err != nil {
		return err
	}
	if v.Is() {
		return errAmbiguous
	}
	end := int(o.d.InputOffset())
	v.from = end - len(raw)
	v.Text = o.m.Text[v.from:end:end]
	return nil
}

// once notes that a member was seen.
func once(seen *bool) error {
	if *seen {
		return errAmbiguous
	}
	*seen = true
	return nil
}

func (o *opening) envelope(name string) error {
	switch name {
	case "jsonrpc":
		return o.value(&o.version)
	case "id":
		return o.value(&o.m.ID)
	case "method":
		return o.value(&o.method)
	case "params":
		if err := once(&o.hasP); err != nil {
			return err
		}
		return o.optional(o.params)
	case "result":
		if err := once(&o.hasResult); err != nil {
			return err
		}
		return o.optional(o.result)
	case "error":
		if err := once(&o.hasError); err != nil {
			return err
		}
	}
	return o.d.SkipValue()
}

func (o *opening) params(name string) error {
	switch name {
	case "_meta":
		return o.optional(o.meta)
	case "progressToken":
		return o.value(&o.m.Progress)
	case "requestId":
		return o.value(&o.m.Cancelled)
	case "taskId":
		return o.value(&o.m.Task)
	case "name":
		return o.value(&o.m.Name)
	case "uri":
		return o.value(&o.m.URI)
	}
	return o.d.SkipValue()
}

func (o *opening) result(name string) error {
	switch name {
	case "protocolVersion":
		return o.value(&o.m.Version)
	case "_meta":
		return o.optional(func(name string) error {
			if name == metaSubscription {
				return o.value(&o.m.Subscription)
			}
			return o.d.SkipValue()
		})
	}
	return o.d.SkipValue()
}

func (o *opening) meta(name string) error {
	switch name {
	case "progressToken":
		return o.value(&o.m.Token)
	case metaSubscription:
		return o.value(&o.m.Subscription)
	case metaVersion:
		return o.value(&o.m.Version)
	case metaTask:
		return o.optional(func(name string) error {
			if name == "taskId" {
				return o.value(&o.m.Task)
			}
			return o.d.SkipValue()
		})
	}
	return o.d.SkipValue()
}

// An Edit is a value of a message that is replaced.
type Edit struct {
	Old Value
	New []byte
}

// Line returns m as a line, without its end, with values replaced. The values of
// edits must be of m, and differ; those that are none are left out.
func (m *Message) Line(edits ...Edit) []byte {
	text := make([]byte, 0, len(m.Text)+32*len(edits)+1)
	at := 0
	for at < len(m.Text) {
		next := Edit{Old: Value{from: len(m.Text)}}
		for _, e := range edits {
			if e.Old.Is() && e.Old.from >= at && e.Old.from < next.Old.from {
				next = e
			}
		}
		text = append(append(text, m.Text[at:next.Old.from]...), next.New...)
		at = next.Old.from + len(next.Old.Text)
	}
	// Between values a carriage return or line feed means no more than a space.
	for i, c := range text {
		if c == '\r' || c == '\n' {
			text[i] = ' '
		}
	}
	return text
}

// The two ways in which the id of a response stands at its ends: as Go, Python
// and Rust write it, and as JavaScript does.
var (
	idAtHead = regexp.MustCompile(`^\{"jsonrpc": ?"2\.0", ?"id": ?([0-9]{1,18}),`)
	idAtTail = regexp.MustCompile(`,(?:"jsonrpc": ?"2\.0", ?)?"id": ?([0-9]{1,18})\}$`)
)

// AnswerTo returns the id of the request that the line is probably the response
// to, by how it begins and ends.
func (e *TooLongError) AnswerTo() (id int64, ok bool) {
	found := idAtHead.FindSubmatch(e.Head)
	if found == nil {
		found = idAtTail.FindSubmatch(e.Tail)
	}
	if found == nil {
		return 0, false
	}
	id, err := strconv.ParseInt(string(found[1]), 10, 64)
	return id, err == nil
}
