package message

import (
	"bytes"
	"errors"
	"fmt"
)

// Filter adds to dst the answer to a list request without the items of list
// (such as "tools") for which visible is not true of their key (such as
// "name"). An item that can be read in two ways is left out. What else the
// answer says stays, except that a cache may keep it neither for others nor
// for later.
func (a *Answer) Filter(dst []byte, list, key string, visible func(string) bool) ([]byte, error) {
	if a.Failed {
		return append(dst, a.text...), nil
	}
	items, err := findOnly(a.Result, list)
	if err == nil && items == nil {
		err = errors.New("it is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", list, err)
	}
	kept, err := filter(items, key, visible)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", list, err)
	}
	return a.rewrite(dst, list, kept), nil
}

// Private adds to dst the answer, marked as not for other agents' caches.
func (a *Answer) Private(dst []byte) []byte {
	if find(a.Result, "cacheScope") == nil {
		return append(dst, a.text...)
	}
	return a.rewrite(dst, "", nil)
}

// rewrite adds the answer to dst with a new value for the member list of its
// result, if list is not empty. A result that is a list must not be used again
// later, since what may be listed can change at any time.
func (a *Answer) rewrite(dst []byte, list string, value []byte) []byte {
	dst = append(dst, a.text[:a.result.from]...)
	dst = append(dst, '{')
	for i, f := range a.Result {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, f.name...)
		dst = append(dst, ':')
		switch {
		case value != nil && f.Name == list:
			dst = append(dst, value...)
		case f.Name == "cacheScope":
			dst = append(dst, `"private"`...)
		case f.Name == "ttlMs" && list != "":
			dst = append(dst, '0')
		default:
			dst = append(dst, f.Value...)
		}
	}
	dst = append(dst, '}')
	return append(dst, a.text[a.result.to:]...)
}

// filter returns the array items without what must not be seen.
func filter(items []byte, key string, visible func(string) bool) ([]byte, error) {
	var array, item raw
	array.reset(items)
	if array.decoder.PeekKind() != '[' {
		return nil, errors.New("it is not an array")
	}
	if _, err := array.decoder.ReadToken(); err != nil {
		return nil, err
	}
	var fields []Field
	kept := bytes.NewBuffer(make([]byte, 0, len(items)))
	kept.WriteByte('[')
	for array.decoder.PeekKind() != ']' {
		value, err := array.value()
		if err != nil {
			return nil, err
		}
		item.reset(value)
		fields, err = item.fields(fields[:0])
		if err != nil {
			continue
		}
		name, err := findOnly(fields, key)
		if err != nil || name == nil {
			continue
		}
		if text, err := unquote(name); err != nil || !visible(text) {
			continue
		}
		if kept.Len() > 1 {
			kept.WriteByte(',')
		}
		kept.Write(value)
	}
	kept.WriteByte(']')
	return kept.Bytes(), nil
}
