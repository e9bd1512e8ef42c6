package condition

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// adapter makes CEL values of what strictjson reads.
type adapter struct{}

// NativeToValue returns v as a CEL value.
func (adapter) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case ref.Val:
		return v
	case string:
		return types.String(v)
	case int64:
		return types.Int(v)
	case float64:
		return types.Double(v)
	case bool:
		return types.Bool(v)
	case *strictjson.Object:
		return (*object)(v)
	case []strictjson.Value:
		return types.NewDynamicList(adapter{}, v)
	default:
		return types.DefaultTypeAdapter.NativeToValue(v)
	}
}

// An object is a JSON object as a CEL map; the same pointer, so that nothing is
// converted or copied.
type object strictjson.Object

func (o *object) json() *strictjson.Object { return (*strictjson.Object)(o) }

// Find returns the member called key.
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	k, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	v, ok := o.json().Get(string(k))
	if !ok {
		return nil, false
	}
	return adapter{}.NativeToValue(v), true
}

// Get returns the member called key, or an error value.
func (o *object) Get(key ref.Val) ref.Val {
	if v, ok := o.Find(key); ok {
		return v
	}
	return types.NewErr("no such key: %v", key)
}

// Contains reports whether there is a member called key.
func (o *object) Contains(key ref.Val) ref.Val {
	_, ok := o.Find(key)
	return types.Bool(ok)
}

// Size returns the number of members.
func (o *object) Size() ref.Val { return types.Int(o.json().Len()) }

// Iterator returns the keys, in the order of the text.
func (o *object) Iterator() traits.Iterator {
	keys := make([]string, 0, o.json().Len())
	for k := range o.json().All() {
		keys = append(keys, k)
	}
	return types.NewStringList(adapter{}, keys).Iterator()
}

// Equal reports whether other is a map of the same keys and equal values.
func (o *object) Equal(other ref.Val) ref.Val {
	m, ok := other.(traits.Mapper)
	if !ok || m.Size() != o.Size() {
		return types.False
	}
	for k, v := range o.json().All() {
		w, ok := m.Find(types.String(k))
		if !ok || types.Equal(adapter{}.NativeToValue(v), w) != types.True {
			return types.False
		}
	}
	return types.True
}

// Type returns the type of maps.
func (o *object) Type() ref.Type { return types.MapType }

// Value returns the JSON object.
func (o *object) Value() any { return o.json() }

// ConvertToType converts to a map, which it is, or to its type.
func (o *object) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.MapType:
		return o
	case types.TypeType:
		return types.MapType
	default:
		return types.NewErr("a map cannot be converted to %s", t.TypeName())
	}
}

// ConvertToNative is for conversions that conditions have no use for.
func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a map cannot be converted to %v", t)
}

// A set is a constant list that finds its elements by hash once there are too
// many to scan.
type set[T string | int64] struct {
	traits.Lister
	elements []T
	hashed   map[T]struct{}
}

// scanned is the number of elements up to which a scan beats a hash.
const scanned = 8

func newSet[T string | int64](elements []T) *set[T] {
	s := &set[T]{Lister: types.NewDynamicList(adapter{}, elements), elements: elements}
	if len(elements) > scanned {
		s.hashed = make(map[T]struct{}, len(elements))
		for _, e := range elements {
			s.hashed[e] = struct{}{}
		}
	}
	return s
}

func (s *set[T]) has(v T) bool {
	if s.hashed == nil {
		return slices.Contains(s.elements, v)
	}
	_, found := s.hashed[v]
	return found
}

// Contains reports whether v is equal to an element. It never looks at them all:
// admission counts on that.
func (s *set[T]) Contains(v ref.Val) ref.Val {
	if types.IsUnknownOrError(v) {
		return v
	}
	element, ok := any(nil), false
	switch v := v.(type) {
	case types.String:
		element, ok = string(v), true
	case types.Int:
		element, ok = int64(v), true
	case types.Uint:
		element, ok = int64(v), v <= math.MaxInt64 //nolint:gosec // That it fits is asked beside it.
	case types.Double:
		// 2^63 is a float64, the largest int64 is not.
		element, ok = int64(v), -1<<63 <= v && v < 1<<63 && v == types.Double(int64(v))
	default:
	}
	e, same := element.(T)
	return types.Bool(ok && same && s.has(e))
}

// A plain is a text or an integer without a box.
type plain struct {
	kind   plainKind
	text   string
	number int64
}

type plainKind int8

const (
	other plainKind = iota
	text
	number
)

// plainOf takes a CEL value out of its box.
func plainOf(v any) plain {
	switch v := v.(type) {
	case types.String:
		return plain{kind: text, text: string(v)}
	case types.Int:
		return plain{kind: number, number: int64(v)}
	default:
		return plain{}
	}
}
