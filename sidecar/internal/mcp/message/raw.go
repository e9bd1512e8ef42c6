package message

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// errAmbiguous is the cause for a server's message that two readers could
// understand differently.
var errAmbiguous = errors.New("it can be read in two ways")

// A Field is one member of an object, with its value as it came.
type Field struct {
	Name  string
	Value []byte

	// name is the name as it came.
	name []byte
}

// A raw reads a JSON text member by member and gives out pieces of it.
type raw struct {
	decoder jsontext.Decoder
	text    []byte
	in      bytes.Buffer
}

// reset makes r read text. Values that are only passed on may hold duplicate
// names and broken text: it is for their reader to judge.
func (r *raw) reset(text []byte) {
	r.text = text
	r.in = *bytes.NewBuffer(text)
	r.decoder.Reset(&r.in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// value reads a value and returns the piece of the text that it is.
func (r *raw) value() ([]byte, error) {
	v, err := r.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(r.decoder.InputOffset())
	return r.text[end-len(v) : end : end], nil
}

// members reads an object and calls each with the name of each member; each
// must read the value. It reports whether there was an object: anything else is
// skipped.
func (r *raw) members(each func(name string, raw []byte) error) (bool, error) {
	if r.decoder.PeekKind() != '{' {
		return false, r.decoder.SkipValue()
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return true, err
	}
	for r.decoder.PeekKind() == '"' {
		raw, err := r.value()
		if err != nil {
			return true, err
		}
		name, err := unquote(raw)
		if err != nil {
			return true, err
		}
		if err := each(name, raw); err != nil {
			return true, err
		}
	}
	_, err := r.decoder.ReadToken()
	return true, err
}

// fields reads a value and, if it is an object, adds its members to dst. Their
// names must differ.
func (r *raw) fields(dst []Field) ([]Field, error) {
	var index map[string]bool
	_, err := r.members(func(name string, raw []byte) error {
		value, err := r.value()
		if err != nil {
			return err
		}
		if index == nil && len(dst) == scanned {
			index = make(map[string]bool)
			for _, f := range dst {
				index[f.Name] = true
			}
		}
		if index[name] || index == nil && find(dst, name) != nil {
			return errAmbiguous
		}
		if index != nil {
			index[name] = true
		}
		dst = append(dst, Field{name, value, raw})
		return nil
	})
	return dst, err
}

// scanned is the number of members up to which a scan beats a map.
const scanned = 16

// find returns the value of the field called name, or nil.
func find(fields []Field, name string) []byte {
	for i := range fields {
		if fields[i].Name == name {
			return fields[i].Value
		}
	}
	return nil
}

// findOnly is find for a name that must have no lookalike.
func findOnly(fields []Field, name string) ([]byte, error) {
	for i := range fields {
		if fields[i].Name != name && strings.EqualFold(fields[i].Name, name) {
			return nil, errAmbiguous
		}
	}
	return find(fields, name), nil
}

// unquote returns the string that a raw value is.
func unquote(raw []byte) (string, error) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", errors.New("a name is not a string")
	}
	if bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) {
		return string(raw[1 : len(raw)-1]), nil
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	return string(text), err
}

// rawID returns the ID that a raw value is; none for null.
func rawID(raw []byte) (ID, error) {
	if string(raw) == "null" {
		return ID{}, nil
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return ID{strconv.FormatInt(n, 10)}, nil
	}
	v, err := strictjson.Parse(raw, strictjson.Limits{})
	if err != nil {
		return ID{}, err
	}
	id, ok := newID(v)
	if !ok {
		return ID{}, errors.New("its id is neither a string of at most 1024 bytes nor an integer")
	}
	return id, nil
}
