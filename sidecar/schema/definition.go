package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/rule"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// Digest returns the digest of a tool's definition, one item of tools/list, as
// "sha256:" and lower-case hex, and its canonical form (RFC 8785), of which the
// digest is. It refuses what cannot be read in one way only, what is not an
// object, and what is beyond MaxSize, as it came or in canonical form, or
// MaxDepth; the error wraps ErrInvalid.
func Digest(definition []byte) (digest, canonical string, err error) {
	o, err := rule.Parse(definition)
	if err != nil {
		return "", "", fmt.Errorf("%w definition: %w", ErrInvalid, err)
	}
	return DigestObject(o)
}

// DigestObject is Digest of a definition that strictjson has read.
func DigestObject(definition *strictjson.Object) (digest, canonical string, err error) {
	text := strictjson.Canonical(nil, definition)
	if len(text) > MaxSize {
		return "", "", fmt.Errorf("%w definition: it has %d bytes in canonical form, and at most %d are allowed", ErrInvalid, len(text), MaxSize)
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:]), string(text), nil
}

// DigestStruct is Digest of a definition that came as a protobuf message. It
// is the same as that of the JSON text.
func DigestStruct(definition *structpb.Struct) (digest, canonical string, err error) {
	o, err := objectOf(definition, 0)
	if err != nil {
		return "", "", fmt.Errorf("%w definition: %w", ErrInvalid, err)
	}
	return DigestObject(o)
}

// InputSchema returns the inputSchema of a tool's definition in canonical form,
// for Compile. The error wraps ErrInvalid.
func InputSchema(definition string) (string, error) {
	o, err := rule.Parse([]byte(definition))
	if err != nil {
		return "", fmt.Errorf("%w definition: %w", ErrInvalid, err)
	}
	s, ok := o.Object("inputSchema")
	if !ok {
		return "", fmt.Errorf("%w definition: inputSchema: want an object", ErrInvalid)
	}
	return string(strictjson.Canonical(nil, s)), nil
}

func objectOf(s *structpb.Struct, depth int) (*strictjson.Object, error) {
	if depth == MaxDepth {
		return nil, fmt.Errorf("nested too deep")
	}
	members := make([]strictjson.Member, 0, len(s.GetFields()))
	for key, field := range s.GetFields() {
		v, err := valueOf(field, depth+1)
		if err != nil {
			return nil, err
		}
		if !utf8.ValidString(key) {
			return nil, fmt.Errorf("invalid UTF-8")
		}
		members = append(members, strictjson.Member{Key: key, Value: v})
	}
	return strictjson.NewObject(members...), nil
}

// maxInteger is the largest integer below which every integer is a float64.
const maxInteger = 1<<53 - 1

func valueOf(v *structpb.Value, depth int) (strictjson.Value, error) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_NullValue:
		return nil, nil
	case *structpb.Value_BoolValue:
		return k.BoolValue, nil
	case *structpb.Value_StringValue:
		if !utf8.ValidString(k.StringValue) {
			return nil, fmt.Errorf("invalid UTF-8")
		}
		return k.StringValue, nil
	case *structpb.Value_NumberValue:
		f := k.NumberValue
		switch {
		case math.IsNaN(f) || math.IsInf(f, 0):
			return nil, fmt.Errorf("not a number")
		case f != math.Trunc(f):
			return f, nil
		case math.Abs(f) > maxInteger:
			return nil, fmt.Errorf("integer beyond ±(2^53-1)")
		default:
			return int64(f), nil
		}
	case *structpb.Value_StructValue:
		return objectOf(k.StructValue, depth)
	case *structpb.Value_ListValue:
		if depth == MaxDepth {
			return nil, fmt.Errorf("nested too deep")
		}
		list := make([]strictjson.Value, len(k.ListValue.GetValues()))
		for i, e := range k.ListValue.GetValues() {
			var err error
			if list[i], err = valueOf(e, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	default:
		return nil, fmt.Errorf("a value of no kind")
	}
}
