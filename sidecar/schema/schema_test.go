package schema_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/schema"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

func object(tb testing.TB, text string) *strictjson.Object {
	tb.Helper()
	v, err := strictjson.Parse([]byte(text), strictjson.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	o, ok := v.(*strictjson.Object)
	if !ok {
		tb.Fatalf("%s is not an object", text)
	}
	return o
}

func compiled(tb testing.TB, text string) *schema.Schema {
	tb.Helper()
	s, err := schema.Compile(text)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

const refund = `{
	"type": "object",
	"properties": {
		"order": {"type": "string", "pattern": "^o-[0-9]+$", "maxLength": 20},
		"amount_cents": {"type": "integer", "minimum": 1, "maximum": 1000000},
		"currency": {"enum": ["EUR", "USD"]},
		"note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null},
		"to": {"type": "array", "maxItems": 3, "items": {"type": "string", "minLength": 3}},
		"address": {"type": "object", "properties": {"city": {"type": "string"}}},
		"extra": {"type": "object"},
		"labels": {"type": "object", "additionalProperties": {"type": "string"}}
	},
	"required": ["order", "amount_cents"]
}`

// P1: arguments that the pinned schema does not name, or that it does not
// accept, are found, and the error says where and never what they are.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := compiled(t, refund)
	for args, want := range map[string]string{
		`{"order": "o-1", "amount_cents": 4900}`:                                                          "",
		`{"order": "o-1", "amount_cents": 4900.0, "note": null, "currency": "EUR"}`:                       "",
		`{"order": "o-1", "amount_cents": 1, "extra": {"x": {"y": 1}}, "labels": {"anything": "s3cret"}}`: "",
		`{"order": "o-1"}`:                                                "arguments.amount_cents: it is required",
		`{"order": "o-1", "AMOUNT_CENTS": 5}`:                             "arguments.AMOUNT_CENTS: the schema has no such argument; did you mean amount_cents?",
		`{"order": "o-1", "amountCents": 5}`:                              "arguments.amountCents: the schema has no such argument; did you mean amount_cents?",
		`{"order": "o-1", "amount_cents": 5, "s3cret": 5}`:                "arguments.s3cret: the schema has no such argument",
		`{"order": "o-1", "amount_cents": 5, "\u200border": "s3cret"}`:    `arguments["\u200border"]: the schema has no such argument; did you mean order?`,
		`{"order": "s3cret", "amount_cents": 5}`:                          "arguments.order: does not match the pattern that the schema gives",
		`{"order": "o-1", "amount_cents": "s3cret"}`:                      "arguments.amount_cents: want an integer",
		`{"order": "o-1", "amount_cents": 4.5}`:                           "arguments.amount_cents: want an integer",
		`{"order": "o-1", "amount_cents": 0}`:                             "arguments.amount_cents: want at least 1",
		`{"order": "o-1", "amount_cents": 5, "currency": "s3cret"}`:       `arguments.currency: want one of "EUR", "USD"`,
		`{"order": "o-1", "amount_cents": 5, "note": 4}`:                  "arguments.note: want a string or null",
		`{"order": "o-1", "amount_cents": 5, "to": ["abc", "def", "s3"]}`: "arguments.to[2]: want at least 3 characters",
		`{"order": "o-1", "amount_cents": 5, "to": ["a@b","b","c","d"]}`:  "arguments.to: want at most 3 elements",
		`{"order": "o-1", "amount_cents": 5, "address": {"ctiy": "s3"}}`:  "arguments.address.ctiy: the schema has no such argument; did you mean city?",
		`{"order": "o-1", "amount_cents": 5, "labels": {"a": 1}}`:         "arguments.labels.a: want a string",
		`{}`: "arguments.order: it is required",
	} {
		err := s.Check(object(t, args))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", args, err)
		case want != "" && (err == nil || err.Error() != want):
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
		var ae *schema.ArgumentError
		if err != nil && !errors.As(err, &ae) {
			t.Errorf("%s: %T is not an ArgumentError", args, err)
		}
		if err != nil && !strings.Contains(want, "s3cret") && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error quotes a value: %v", args, err)
		}
	}
}

// P1: where the schema does not name a member, it is refused, unless the schema
// opens the object itself.
func TestClosed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		schema, args string
		ok           bool
	}{
		{`{"type": "object"}`, `{}`, true},
		{`{"type": "object"}`, `{"a": 1}`, false},
		{`{}`, `{"a": 1}`, false},
		{`{"additionalProperties": true}`, `{"a": 1}`, true},
		{`{"additionalProperties": {"type": "integer"}}`, `{"a": "1"}`, false},
		{`{"unevaluatedProperties": true}`, `{"a": 1}`, true},
		{`{"properties": {"a": {}}}`, `{"a": {"b": 1}}`, true},
		{`{"properties": {"a": {"type": "object"}}}`, `{"a": {"b": 1}}`, true},
		{`{"properties": {"a": {"properties": {}}}}`, `{"a": {"b": 1}}`, false},
		{`{"properties": {"a": {"properties": {}, "additionalProperties": true}}}`, `{"a": {"b": 1}}`, true},
		{`{"patternProperties": {"^x-": {}}}`, `{"x-a": 1}`, true},
		{`{"patternProperties": {"^x-": {}}}`, `{"x-a": 1, "y": 1}`, false},
		{`{"properties": {"a": {"items": {"properties": {"b": {}}}}}}`, `{"a": [{"b": 1}, {"c": 1}]}`, false},
		// Names of everything that applies count together.
		{`{"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}`, `{"a": 1, "b": 2}`, true},
		{`{"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}`, `{"a": 1, "c": 2}`, false},
		{`{"$ref": "#/$defs/x", "properties": {"b": {}}, "$defs": {"x": {"properties": {"a": {}}}}}`, `{"a": 1, "b": 2}`, true},
		{`{"if": {"properties": {"k": {"const": 1}}}, "then": {"properties": {"x": {}}}, "else": {"properties": {"y": {}}}}`, `{"k": 1, "x": 2}`, true},
		{`{"if": {"properties": {"k": {"const": 1}}}, "then": {"properties": {"x": {}}}, "else": {"properties": {"y": {}}}}`, `{"k": 1, "y": 2}`, false},
		{`{"dependentSchemas": {"a": {"properties": {"a": {}, "b": {}}}}}`, `{"a": 1, "b": 2}`, true},
		{`{"dependentSchemas": {"a": {"properties": {"a": {}, "b": {}}}}}`, `{"b": 2}`, false},
		// Of alternatives, only those that are satisfied name anything.
		{kinds, `{"kind": "a", "x": 1}`, true},
		{kinds, `{"kind": "a", "y": 1}`, false},
		{kinds, `{"kind": "b", "y": {"z": 1}}`, true},
		{kinds, `{"kind": "b", "y": {"w": 1}}`, false},
		{`{"not": {"properties": {"a": {"properties": {"b": {}}}}, "required": ["a"]}, "properties": {"a": {}}}`, `{"a": {"c": 1}}`, false},
	} {
		if err := compiled(t, c.schema).Check(object(t, c.args)); (err == nil) != c.ok {
			t.Errorf("%s\nof %s: %v, want accepted: %t", c.args, c.schema, err, c.ok)
		}
	}
}

const kinds = `{"oneOf": [
	{"properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}, "required": ["kind"]},
	{"properties": {"kind": {"const": "b"}, "y": {"properties": {"z": {}}}}, "required": ["kind"]}
]}`

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`[]`:                                   "invalid schema: want an object",
		`{"type": "object", "type": "object"}`: "invalid schema: invalid JSON at /type: duplicate key",
		`{"type": "string"}`:                   "invalid schema at /type: arguments are an object",
		`{"properties": {"a": {"type": "strnig"}}}`:                "invalid schema at /properties/a/type: want null",
		`{"properties": {"a": {"$ref": "https://example.com/x"}}}`: "invalid schema at /properties/a/$ref: it refers to elsewhere",
		`{"properties": {"a": {"$ref": "#/$defs/x"}}}`:             "invalid schema at /properties/a/$ref: there is nothing",
		`{"properties": {"a/b": {"$dynamicRef": "#x"}}}`:           "invalid schema at /properties/a~1b/$dynamicRef: dynamic",
		`{"properties": {"a": {"pattern": "a(?=x)"}}}`:             "invalid schema at /properties/a/pattern: the pattern: RE2 does not have",
		`{"properties": {"a": {"pattern": "\\Ax"}}}`:               "invalid schema at /properties/a/pattern: the pattern: RE2 does not have",
		`{"properties": {"a": {"pattern": "(x)\\1"}}}`:             "invalid schema at /properties/a/pattern",
		`{"properties": {"a": {"maxLength": -1}}}`:                 "invalid schema at /properties/a/maxLength: want an integer from 0 on",
		`{"properties": {"a": {"required": true}}}`:                "invalid schema at /properties/a/required: want an array of strings",
		`{"properties": {"a": {"exclusiveMinimum": true}}}`:        "invalid schema at /properties/a/exclusiveMinimum: want a number",
		`{"properties": {"a": {"const": 12345678901234567890}}}`:   "integer beyond",
		`{"$schema": "http://json-schema.org/draft-04/schema#"}`:   "invalid schema at /$schema: a dialect",
		`{"$ref": "#"}`: "refers to itself",
		`{"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}}`:        "refers to itself",
		`{"$defs": {"a": ` + strings.Repeat(`{"not": `, 70) + `{}` + strings.Repeat(`}`, 70) + `}}`: "nested too deep",
		`{"$comment": "` + strings.Repeat("x", schema.MaxSize) + `"}`:                               "text is too long",
		`{"properties": {"a": {"pattern": "` + strings.Repeat("x", 3000) + `"}}}`:                   "at most 2048",
		`{"$id": "#a", "$defs": {"b": {"$id": "http://x/y"}}}`:                                      "only the schema as a whole",
	} {
		_, err := schema.Compile(text)
		if !errors.Is(err, schema.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want ErrInvalid that says %q", text, err, want)
		}
	}
}

// The work of one check has a bound, whatever the schema and the arguments.
func TestCheckIsBounded(t *testing.T) {
	t.Parallel()
	s := compiled(t, `{"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [
		{"properties": {"c": {"$ref": "#/$defs/n"}, "never": {}}, "required": ["never"]},
		{"properties": {"c": {"$ref": "#/$defs/n"}, "nor": {}}, "required": ["nor"]},
		{"properties": {"c": {"anyOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}]}}}
	]}}}`)
	err := s.Check(object(t, strings.Repeat(`{"c": `, 60)+`1`+strings.Repeat(`}`, 60)))
	if err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v, want that it takes too long", err)
	}
}

const large = `{"type": "object", "required": ["customer", "lines"], "properties": {
	"customer": {"type": "object", "required": ["id"], "properties": {
		"id": {"type": "string"}, "name": {"type": "string"}, "email": {"type": "string", "format": "email"}, "phone": {"type": ["string", "null"]},
		"address": {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": "string", "maxLength": 10}, "city": {"type": "string"}, "country": {"enum": ["DE", "FR", "IT"]}}},
		"billing": {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": "string", "maxLength": 10}, "city": {"type": "string"}, "country": {"enum": ["DE", "FR", "IT"]}}}
	}},
	"lines": {"type": "array", "maxItems": 100, "items": {"type": "object", "required": ["sku", "quantity"], "properties": {
		"sku": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, "quantity": {"type": "integer", "minimum": 1}, "price": {"type": "number", "minimum": 0},
		"note": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "tags": {"type": "array", "items": {"type": "string"}}
	}}},
	"a1": {"type": "string"}, "a2": {"type": "string"}, "a3": {"type": "integer"}, "a4": {"type": "integer"}, "a5": {"type": "boolean"},
	"a6": {"type": "string"}, "a7": {"type": "string"}, "a8": {"type": "integer"}, "a9": {"type": "integer"}, "a10": {"type": "boolean"},
	"b1": {"type": "string"}, "b2": {"type": "string"}, "b3": {"type": "integer"}, "b4": {"type": "integer"}, "b5": {"type": "boolean"}
}}`

const largeArgs = `{
	"customer": {"id": "c-1", "name": "A. Person", "email": "a@example.com", "phone": null,
		"address": {"street": "Some Street 1", "zip": "12345", "city": "Town", "country": "DE"},
		"billing": {"street": "Some Street 1", "zip": "12345", "city": "Town", "country": "FR"}},
	"lines": [{"sku": "AB-1", "quantity": 2, "price": 9.5, "note": null, "tags": ["x", "y"]}, {"sku": "AB-2", "quantity": 1, "price": 5, "note": "n", "tags": []}],
	"a1": "x", "a2": "x", "a3": 3, "a4": 4, "a5": true, "a6": "x", "a7": "x", "a8": 3, "a9": 4, "a10": true, "b1": "x", "b2": "x", "b3": 1, "b4": 2, "b5": false
}`

func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct{ name, schema, args string }{
		{"5", refund, `{"order": "o-17", "amount_cents": 4900, "currency": "EUR", "note": "late", "to": ["a@example.com"]}`},
		{"40-nested", large, largeArgs},
	} {
		s, args := compiled(b, c.schema), object(b, c.args)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Check(args); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := schema.Compile(large); err != nil {
			b.Fatal(err)
		}
	}
}
