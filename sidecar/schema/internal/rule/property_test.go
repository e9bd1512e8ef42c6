package rule_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"pgregory.net/rapid"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/rule"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// names are few, so that schemas and values meet.
var names = []string{"a", "b", "c", "ab"}

// schemas draws schemas with all keywords that can be combined freely.
func schemas(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var members []string
		add := func(key, value string) { members = append(members, fmt.Sprintf("%q: %s", key, value)) }
		small := func() string { return fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "n")) }
		name := func() string { return rapid.SampledFrom(names).Draw(t, "name") }
		inner := func() string {
			if depth == 0 {
				return rapid.SampledFrom([]string{"true", "false", "{}", `{"type": "string"}`, `{"type": "integer"}`, `{"const": 1}`}).Draw(t, "leaf")
			}
			return schemas(depth-1).Draw(t, "inner")
		}
		list := func() string { return "[" + inner() + ", " + inner() + "]" }
		for range rapid.IntRange(0, 3).Draw(t, "members") {
			switch key := rapid.SampledFrom([]string{
				"type", "enum", "const", "minimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "properties", "properties", "properties",
				"patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames", "required", "minProperties", "maxProperties",
				"dependentRequired", "dependentSchemas", "items", "prefixItems", "contains", "minContains", "uniqueItems", "minItems", "maxItems", "unevaluatedItems",
				"allOf", "anyOf", "oneOf", "not", "if", "$ref",
			}).Draw(t, "key"); key {
			case "type":
				add(key, rapid.SampledFrom([]string{`"object"`, `"object"`, `"array"`, `"string"`, `"integer"`, `"number"`, `["null", "boolean"]`, `["object", "array"]`}).Draw(t, "type"))
			case "enum":
				add(key, `[1, "a", {"a": 1}, [1]]`)
			case "const", "minimum", "exclusiveMaximum", "minLength", "maxLength", "minProperties", "maxProperties", "minItems", "maxItems", "minContains":
				add(key, small())
			case "multipleOf":
				add(key, rapid.SampledFrom([]string{"2", "0.5"}).Draw(t, "unit"))
			case "pattern":
				add(key, `"^a"`)
			case "properties":
				add(key, fmt.Sprintf(`{%q: %s, "c": %s}`, name(), inner(), inner()))
			case "patternProperties":
				add(key, fmt.Sprintf(`{"^a": %s}`, inner()))
			case "dependentSchemas":
				add(key, fmt.Sprintf(`{%q: %s}`, name(), inner()))
			case "required":
				add(key, fmt.Sprintf(`[%q]`, name()))
			case "dependentRequired":
				add(key, fmt.Sprintf(`{%q: [%q]}`, name(), name()))
			case "uniqueItems":
				add(key, "true")
			case "prefixItems", "allOf", "anyOf", "oneOf":
				add(key, list())
			case "if":
				add(key, inner())
				add("then", inner())
				add("else", inner())
			case "$ref":
				add(key, `"#/$defs/d"`)
			default:
				add(key, inner())
			}
		}
		return "{" + strings.Join(members, ", ") + "}"
	})
}

func values(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		if depth == 0 || rapid.IntRange(0, 3).Draw(t, "scalar") == 0 {
			return rapid.SampledFrom([]string{"null", "true", "0", "1", "2", "0.5", `"a"`, `"b"`, `""`, "[]", "{}", "[1]", `{"a": 1}`}).Draw(t, "value")
		}
		var parts []string
		if rapid.IntRange(0, 2).Draw(t, "array") == 0 {
			for range rapid.IntRange(0, 3).Draw(t, "length") {
				parts = append(parts, values(depth-1).Draw(t, "element"))
			}
			return "[" + strings.Join(parts, ", ") + "]"
		}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 4, rapid.ID[string]).Draw(t, "names") {
			parts = append(parts, fmt.Sprintf("%q: %s", name, values(depth-1).Draw(t, "member")))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	})
}

// unique removes all but the last of equal keys.
func unique(schema string) (*strictjson.Object, []byte) {
	var m map[string]any
	if json.Unmarshal([]byte(schema), &m) != nil {
		return nil, nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, nil
	}
	v, err := strictjson.Parse(text, strictjson.Limits{})
	if err != nil {
		return nil, nil
	}
	o, _ := v.(*strictjson.Object)
	return o, text
}

// TestMeansWhatTheLibraryMeans compares with a validator that others wrote.
func TestMeansWhatTheLibraryMeans(t *testing.T) {
	t.Parallel()
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := strings.TrimSuffix(schemas(3).Draw(t, "schema"), "}")
		if text != "{" {
			text += ", "
		}
		schema, plain := unique(text + `"$defs": {"d": ` + schemas(1).Draw(t, "d") + `}}`)
		if schema == nil {
			return
		}
		var other jsonschema.Schema
		if err := json.Unmarshal(plain, &other); err != nil {
			t.Fatalf("%s: the library does not read it: %v", plain, err)
		}
		resolved, err := other.Resolve(nil)
		if err != nil {
			t.Fatalf("%s: the library does not resolve it: %v", plain, err)
		}
		for range 10 {
			text := values(3).Draw(t, "value")
			v, err := strictjson.Parse([]byte(text), strictjson.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			var same any
			if err := json.Unmarshal([]byte(text), &same); err != nil {
				t.Fatal(err)
			}
			got, err := rule.Holds(schema, v)
			if errors.Is(err, rule.ErrInvalid) {
				return // a schema that refers to itself for the same value
			}
			want := resolved.Validate(same)
			if got != (want == nil) {
				t.Fatalf("%s\nof %s: %t (%v), and to the library %v", text, plain, got, err, want)
			}
			if got {
				accepted++
			} else {
				refused++
			}
			closedIsStricter(t, plain, text, v, got)
		}
	})
	t.Logf("%d values were accepted and %d refused", accepted, refused)
	if accepted < 100 || refused < 100 {
		t.Errorf("%d values were accepted and %d refused", accepted, refused)
	}
}

// closedIsStricter holds that the rule about names only ever refuses more, and
// that whatever is refused is explained.
func closedIsStricter(t *rapid.T, schema []byte, text string, v strictjson.Value, open bool) {
	t.Helper()
	s, err := rule.Compile(schema)
	o, isObject := v.(*strictjson.Object)
	if err != nil || !isObject {
		return
	}
	err = s.Check(o)
	if err == nil && !open {
		t.Fatalf("%s\nof %s: accepted, though it does not satisfy the schema", text, schema)
	}
	var e *rule.ArgumentError
	if err != nil && (!errors.As(err, &e) || !strings.HasPrefix(e.Place, "arguments") || strings.Contains(e.Problem, "too long")) {
		t.Fatalf("%s\nof %s: refused without a reason: %v", text, schema, err)
	}
	shaped(t, s.Arguments(), o, err == nil, string(schema)+text)
}

// shaped holds that what a shape says is so of every object that is accepted.
func shaped(t *rapid.T, s rule.Shape, o *strictjson.Object, accepted bool, of string) {
	t.Helper()
	if !accepted {
		return
	}
	for name, v := range o.All() {
		member, ok := s.Member(name)
		if !ok {
			t.Fatalf("%s: the shape has no %s, and a value that is accepted does", of, name)
		}
		kind, nullable := member.Kind()
		if !suits(v, kind, nullable) {
			t.Fatalf("%s: %s is not what the shape says, %d", of, name, kind)
		}
		if below, isObject := v.(*strictjson.Object); isObject {
			shaped(t, member, below, true, of)
		}
	}
}

func suits(v strictjson.Value, kind rule.Kind, nullable bool) bool {
	var ok bool
	switch kind {
	case rule.Any:
		ok = true
	case rule.Boolean:
		_, ok = v.(bool)
	case rule.Integer:
		_, ok = v.(int64)
	case rule.Number:
		_, isInt := v.(int64)
		_, isFloat := v.(float64)
		ok = isInt || isFloat
	case rule.String:
		_, ok = v.(string)
	case rule.Array:
		_, ok = v.([]strictjson.Value)
	case rule.Object:
		_, ok = v.(*strictjson.Object)
	}
	return ok || v == nil && nullable
}

// FuzzCheck: no schema and no arguments make it panic, or hang.
func FuzzCheck(f *testing.F) {
	f.Add(`{"properties": {"a": {"anyOf": [{"type": "string"}, {"$ref": "#"}]}}, "required": ["a"]}`, `{"a": {"a": "x"}}`)
	f.Add(`{"patternProperties": {"^\\s[\\s\\S]\\u0041": false}, "if": {"not": {}}, "unevaluatedProperties": {"type": "null"}}`, `{" xA": 1}`)
	f.Add(`{"$defs": {"x": {"$anchor": "y", "items": [{}, true], "additionalItems": false}}, "dependencies": {"a": ["b"], "c": {"$ref": "#y"}}}`, `{"a": [1], "c": []}`)
	f.Fuzz(func(t *testing.T, schema, args string) {
		s, err := rule.Compile([]byte(schema))
		if err != nil {
			if !errors.Is(err, rule.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		s.Arguments().Kind()
		for _, name := range s.Arguments().Names() {
			if m, ok := s.Arguments().Member(name); ok {
				m.Element().Kind()
			}
		}
		o, err := rule.Parse([]byte(args))
		if err != nil {
			return
		}
		if err := s.Check(o); err != nil && err.Error() == "" {
			t.Fatal("no reason")
		}
	})
}
