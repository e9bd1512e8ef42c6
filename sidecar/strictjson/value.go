// Package strictjson reads JSON that can be read only one way, and writes back
// exactly what it read. Whatever two parsers could disagree about (duplicate
// keys, invalid UTF-8, lone surrogates, numbers that do not survive) is an
// error, never a guess.
package strictjson

import "iter"

// A Value is what a JSON text holds: nil, bool, string, int64 (any number that
// is exactly an integer within ±(2^53-1), however it was written), float64 (any
// other number), []Value, or *Object. Values that Parse returned are never
// changed by this package, so they may be shared.
type Value = any

// A Member is one name of an object and its value.
type Member struct {
	Key   string
	Value Value
}

// An Object is a JSON object that remembers the order of its members. It is
// immutable and safe for concurrent use; a nil *Object is an empty object.
type Object struct {
	members []Member
	// index finds a member by key once there are too many to scan.
	index map[string]int
}

// scanned is the number of members up to which a scan beats a map.
const scanned = 8

// NewObject makes an object of members, in their order. Of members with equal
// keys the first one gives the place and the last one the value.
func NewObject(members ...Member) *Object {
	at := make(map[string]int, len(members))
	kept := make([]Member, 0, len(members))
	for _, m := range members {
		if i, ok := at[m.Key]; ok {
			kept[i].Value = m.Value
			continue
		}
		at[m.Key] = len(kept)
		kept = append(kept, m)
	}
	return newObject(kept)
}

func newObject(members []Member) *Object {
	o := &Object{members: members}
	if len(members) > scanned {
		o.index = indexOf(members)
	}
	return o
}

func indexOf(members []Member) map[string]int {
	index := make(map[string]int, 2*len(members))
	for i := range members {
		index[members[i].Key] = i
	}
	return index
}

// Len returns the number of members.
func (o *Object) Len() int {
	if o == nil {
		return 0
	}
	return len(o.members)
}

// find returns the position of key, or -1.
func (o *Object) find(key string) int {
	if o == nil {
		return -1
	}
	if o.index != nil {
		if i, ok := o.index[key]; ok {
			return i
		}
		return -1
	}
	for i := range o.members {
		if o.members[i].Key == key {
			return i
		}
	}
	return -1
}

// Get returns the member called key, and whether there is one.
func (o *Object) Get(key string) (Value, bool) {
	if i := o.find(key); i >= 0 {
		return o.members[i].Value, true
	}
	return nil, false
}

// String returns the member called key, and whether there is one that is a
// string.
func (o *Object) String(key string) (string, bool) { return member[string](o, key) }

// Object returns the member called key, and whether there is one that is an
// object.
func (o *Object) Object(key string) (*Object, bool) { return member[*Object](o, key) }

func member[T any](o *Object, key string) (T, bool) {
	v, _ := o.Get(key)
	t, ok := v.(T)
	return t, ok
}

// All returns the members in their order.
func (o *Object) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if o == nil {
			return
		}
		for i := range o.members {
			if !yield(o.members[i].Key, o.members[i].Value) {
				return
			}
		}
	}
}
