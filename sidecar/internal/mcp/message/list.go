package message

import (
	"errors"
	"fmt"
	"strconv"
)

// A List says what may be seen of an answer that lists things.
type List struct {
	// Member is the member of the result that is the list, such as "tools", and
	// Key that of an item by which it is named, such as "name".
	Member, Key string
	// Unique says that items of one name are left out, all of them.
	Unique bool
	// Visible reports whether an item may be seen, by its name and as it came.
	Visible func(name string, item []byte) bool
	// Lifetime is the longest time, in milliseconds, for which a cache may keep
	// the answer. Hinted says that the answer must say so, and that it is for one
	// agent alone, also where it does not speak of caches.
	Lifetime int64
	Hinted   bool
}

// Filter adds to dst the answer to a list request without the items that may not
// be seen. An item that can be read in two ways is left out. What else the answer
// says stays, except what it says to caches.
func (a *Answer) Filter(dst []byte, l *List) ([]byte, error) {
	if a.Failed {
		return append(dst, a.text...), nil
	}
	items, err := findOnly(a.Result, l.Member)
	if err == nil && items == nil {
		err = errors.New("it is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.Member, err)
	}
	kept, err := l.filter(items)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.Member, err)
	}
	changes := []change{{l.Member, kept, false}, {"cacheScope", []byte(`"private"`), l.Hinted}}
	lifetime := l.Lifetime
	if given, err := strconv.ParseInt(string(find(a.Result, "ttlMs")), 10, 64); err != nil || given < 0 {
		lifetime = 0
	} else {
		lifetime = min(lifetime, given)
	}
	changes = append(changes, change{"ttlMs", strconv.AppendInt(nil, max(0, lifetime), 10), l.Hinted})
	return a.rewrite(dst, changes), nil
}

// Items calls each with every element of an array in the result, as it came.
func (a *Answer) Items(member string, each func(item []byte)) error {
	items, err := findOnly(a.Result, member)
	if err == nil && items == nil {
		err = errors.New("it is missing")
	}
	if err == nil {
		err = elements(items, each)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", member, err)
	}
	return nil
}

// A Change is another value, as JSON, for a member of a result, which must have
// it.
type Change struct {
	Name  string
	Value []byte
}

// Private adds to dst the answer with changes, and marked as not for other agents'
// caches.
func (a *Answer) Private(dst []byte, changes ...Change) []byte {
	if len(changes) == 0 && find(a.Result, "cacheScope") == nil {
		return append(dst, a.text...)
	}
	all := []change{{name: "cacheScope", value: []byte(`"private"`)}}
	for _, c := range changes {
		all = append(all, change{name: c.Name, value: c.Value})
	}
	return a.rewrite(dst, all)
}

// A change is another value for a member of the result, or a new member if it is
// to be added.
type change struct {
	name  string
	value []byte
	add   bool
}

// rewrite adds the answer to dst with changes to its result.
func (a *Answer) rewrite(dst []byte, changes []change) []byte {
	dst = append(dst, a.text[:a.result.from]...)
	dst = append(dst, '{')
	for i, f := range a.Result {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, f.name...), ':')
		value := f.Value
		for j := range changes {
			if changes[j].name == f.Name {
				value, changes[j].add = changes[j].value, false
			}
		}
		dst = append(dst, value...)
	}
	for i, c := range changes {
		if !c.add {
			continue
		}
		if i > 0 || len(a.Result) > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(strconv.AppendQuote(dst, c.name), ':'), c.value...)
	}
	dst = append(dst, '}')
	return append(dst, a.text[a.result.to:]...)
}

// elements calls each with every element of an array, as it came.
func elements(items []byte, each func(item []byte)) error {
	var array raw
	array.reset(items)
	if array.decoder.PeekKind() != '[' {
		return errors.New("it is not an array")
	}
	if _, err := array.decoder.ReadToken(); err != nil {
		return err
	}
	for array.decoder.PeekKind() != ']' {
		value, err := array.value()
		if err != nil {
			return err
		}
		each(value)
	}
	return nil
}

// filter returns the array items without what must not be seen.
func (l *List) filter(items []byte) ([]byte, error) {
	type named struct {
		name string
		item []byte
	}
	var all []named
	var times map[string]int
	if l.Unique {
		times = make(map[string]int)
	}
	var item raw
	var fields []Field
	err := elements(items, func(value []byte) {
		item.reset(value)
		var err error
		if fields, err = item.fields(fields[:0]); err != nil {
			return
		}
		name, err := findOnly(fields, l.Key)
		if err != nil || name == nil {
			return
		}
		text, err := unquote(name)
		if err != nil {
			return
		}
		all = append(all, named{text, value})
		if l.Unique {
			times[text]++
		}
	})
	if err != nil {
		return nil, err
	}
	kept := append(make([]byte, 0, len(items)), '[')
	for _, n := range all {
		if !l.Visible(n.name, n.item) || times[n.name] > 1 {
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, n.item...)
	}
	return append(kept, ']'), nil
}
