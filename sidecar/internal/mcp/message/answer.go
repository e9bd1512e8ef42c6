package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// An Answer is one message from a server, opened as far as it must be
// understood. It is valid until the Scanner that read it reads again, and as
// long as the text it was read from.
type Answer struct {
	Kind Kind
	// ID is zero for a notification, and for an error about a request whose id
	// the server could not read.
	ID ID
	// Method is empty for a response.
	Method string
	// Failed says that a response carries an error instead of a result.
	Failed bool
	// Result are the members of a response's result, and Params those of a
	// notification's params, if they are objects.
	Result, Params []Field

	text []byte
	// result is where in text the result is.
	result struct{ from, to int }
}

// A Scanner opens messages of servers, one at a time.
type Scanner struct {
	raw            raw
	result, params []Field
}

// Scan opens one message. Wherever a name is read (in the message, in its
// result and in its params) names must differ, and must not be lookalikes of
// those that have a meaning.
func (s *Scanner) Scan(text []byte) (Answer, error) {
	s.raw.reset(text)
	a := Answer{text: text}
	var version string
	seen := make([]bool, len(envelope))
	object, err := s.raw.members(func(name string, _ []byte) error {
		i := slices.Index(envelope, name)
		if i >= 0 && seen[i] || isLookalike(name, envelope) {
			return errAmbiguous
		}
		if i >= 0 {
			seen[i] = true
		}
		return s.member(&a, name, &version)
	})
	if err == nil && !object {
		err = errors.New("it is not an object")
	}
	if err == nil {
		if _, more := s.raw.decoder.ReadToken(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err == nil {
		err = a.classify(version, seen)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("read message: %w", err)
	}
	return a, nil
}

// member reads the value of one member of the message.
func (s *Scanner) member(a *Answer, name string, version *string) (err error) {
	switch name {
	case "result":
		name := int(s.raw.decoder.InputOffset())
		s.result, err = s.raw.fields(s.result[:0])
		if err != nil {
			return err
		}
		a.Result, a.result.to = s.result, int(s.raw.decoder.InputOffset())
		a.result.from = name + bytes.IndexByte(s.raw.text[name:], ':') + 1
		return nil
	case "params":
		s.params, err = s.raw.fields(s.params[:0])
		a.Params = s.params
		return err
	}
	value, err := s.raw.value()
	if err != nil {
		return err
	}
	switch name {
	case "jsonrpc":
		*version, err = unquote(value)
	case "method":
		a.Method, err = unquote(value)
	case "id":
		a.ID, err = rawID(value)
	}
	return err
}

// classify sets the kind of the answer. seen is in the order of envelope.
func (a *Answer) classify(version string, seen []bool) error {
	hasID, hasMethod, hasResult, hasError := seen[1], seen[2], seen[4], seen[5]
	switch {
	case version != "2.0":
		return errors.New(`jsonrpc is not "2.0"`)
	case hasMethod && (hasResult || hasError), hasResult && hasError:
		return errAmbiguous
	case hasMethod && a.Method == "":
		return errors.New("its method is empty")
	case hasMethod && hasID && a.ID.IsZero():
		return errors.New("the id of a request is null")
	case hasMethod && hasID:
		a.Kind = Request
	case hasMethod:
		a.Kind = Notification
	case hasResult && a.ID.IsZero():
		return errors.New("a result has no id")
	case hasResult, hasError:
		a.Kind, a.Failed = Response, hasError
	default:
		return errors.New("it is neither a request nor a response")
	}
	return nil
}

// IsError reports whether the answer to a call says that the call failed: by an
// error, or by a result that is marked as one.
func (a *Answer) IsError() bool {
	return a.Failed || string(find(a.Result, "isError")) == "true"
}

// String returns the parameter called name of a notification, and whether there
// is one that is a string.
func (a *Answer) String(name string) (string, bool) {
	raw, err := findOnly(a.Params, name)
	if err != nil || raw == nil {
		return "", false
	}
	text, err := unquote(raw)
	return text, err == nil
}

// Wants returns what the server asks of the agent before it can answer: the
// members of inputRequests, each a request without an id, as they came.
func (a *Answer) Wants() ([][]byte, error) { return wants(a.Result) }

// Asks returns the same of the parameters of a notification.
func (a *Answer) Asks() ([][]byte, error) { return wants(a.Params) }

func wants(fields []Field) ([][]byte, error) {
	value, err := findOnly(fields, "inputRequests")
	if err != nil || value == nil {
		return nil, err
	}
	var r raw
	r.reset(value)
	if fields, err = r.fields(nil); err != nil {
		return nil, err
	}
	wants := make([][]byte, len(fields))
	for i, f := range fields {
		wants[i] = f.Value
	}
	return wants, nil
}

// State returns what the server has the agent keep until it asks again; empty if
// nothing.
func (a *Answer) State() (string, error) {
	value, err := findOnly(a.Result, ParamState)
	if err != nil || value == nil || string(value) == "null" {
		return "", err
	}
	return unquote(value)
}

// ResultString returns the string in the result at a path of members, and whether
// there is one.
func (a *Answer) ResultString(path ...string) (string, bool) {
	fields := a.Result
	for i, name := range path {
		value, err := findOnly(fields, name)
		if err != nil || value == nil {
			return "", false
		}
		if i == len(path)-1 {
			text, err := unquote(value)
			return text, err == nil
		}
		var r raw
		r.reset(value)
		if fields, err = r.fields(nil); err != nil {
			return "", false
		}
	}
	return "", false
}
