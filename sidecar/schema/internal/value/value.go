// Package value compares values as JSON Schema does.
package value

import (
	"cmp"
	"math/big"
	"strconv"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// Contains reports whether one of a list is equal to v.
func Contains(list []strictjson.Value, v strictjson.Value) bool {
	for _, e := range list {
		if Equal(e, v) {
			return true
		}
	}
	return false
}

// Equal reports whether two values are the same: numbers by their value,
// objects without regard to order.
func Equal(a, b strictjson.Value) bool {
	switch a := a.(type) {
	case []strictjson.Value:
		b, ok := b.([]strictjson.Value)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !Equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case *strictjson.Object:
		b, ok := b.(*strictjson.Object)
		if !ok || a.Len() != b.Len() {
			return false
		}
		for name, v := range a.All() {
			if w, ok := b.Get(name); !ok || !Equal(v, w) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []strictjson.Value, *strictjson.Object:
		return false // they cannot be compared by ==
	}
	return a == b
}

// Compare compares two numbers.
func Compare(a, b strictjson.Value) int {
	i, ok := a.(int64)
	j, also := b.(int64)
	if ok && also {
		return cmp.Compare(i, j)
	}
	return cmp.Compare(float(a), float(b))
}

// float is exact: strictjson has no integers beyond a float64's.
func float(v strictjson.Value) float64 {
	if i, ok := v.(int64); ok {
		return float64(i)
	}
	f, _ := v.(float64)
	return f
}

// Multiple reports whether v is an integer times unit, both as the decimals
// that were written: 0.3 is a multiple of 0.1.
func Multiple(v, unit strictjson.Value) bool {
	i, ok := v.(int64)
	j, also := unit.(int64)
	if ok && also {
		return j != 0 && i%j == 0
	}
	x, y := rational(v), rational(unit)
	return y.Sign() != 0 && x.Quo(x, y).IsInt()
}

func rational(v strictjson.Value) *big.Rat {
	r := new(big.Rat)
	if i, ok := v.(int64); ok {
		return r.SetInt64(i)
	}
	r.SetString(strconv.FormatFloat(float(v), 'e', -1, 64))
	return r
}
