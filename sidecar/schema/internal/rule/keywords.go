package rule

import (
	"strings"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/ecma"
	"github.com/reeve-authz/reeve/sidecar/schema/internal/value"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// beyond are the keywords that are refused wherever they stand, and why.
var beyond = map[string]string{
	"$dynamicRef":   "dynamic references are not supported; use $ref",
	"$recursiveRef": "dynamic references are not supported; use $ref",
	"divisibleBy":   "a keyword of draft 3; use multipleOf",
	"extends":       "a keyword of draft 3; use allOf",
	"disallow":      "a keyword of draft 3; use not",
}

// asserting are the keywords that mean something to a value.
var asserting = []string{
	"type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern",
	"prefixItems", "items", "additionalItems", "maxItems", "minItems", "uniqueItems", "contains", "unevaluatedItems",
	"maxProperties", "minProperties", "required", "properties", "patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties",
	"dependencies", "dependentRequired", "dependentSchemas", "if", "allOf", "anyOf", "oneOf", "not",
}

// object compiles the object at the place into n.
func (c *compiler) object(n *node, o *strictjson.Object) error {
	for key, why := range beyond {
		if _, ok := o.Get(key); ok {
			return c.in(key, func() error { return c.fail("%s", why) })
		}
	}
	for _, f := range []func(*node, *strictjson.Object) error{
		c.identify, c.kinds, c.numbers, c.strings, c.arrays, c.arrayMembers, c.objects, c.needs, c.combine,
	} {
		if err := f(n, o); err != nil {
			return err
		}
	}
	return nil
}

// identify compiles what names a schema, and what refers to one.
func (c *compiler) identify(n *node, o *strictjson.Object) error {
	for _, key := range []string{"$id", "$anchor", "$dynamicAnchor", "$ref"} {
		v, ok := o.Get(key)
		if !ok {
			continue
		}
		err := c.in(key, func() error {
			s, ok := v.(string)
			if !ok {
				return c.fail("want a string")
			}
			switch {
			case key == "$ref":
				c.pending = append(c.pending, reference{from: n, to: s, place: pointerTo(c.place)})
				return nil
			case key != "$id":
				return c.anchor(n, s)
			case strings.HasPrefix(s, "#") && len(s) > 1:
				return c.anchor(n, s[1:])
			case o != c.root:
				return c.fail("only the schema as a whole may have an $id")
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, key := range []string{"$defs", "definitions"} {
		err := c.each(o, key, func(_ string, v strictjson.Value) error { _, err := c.schema(v); return err })
		if err != nil {
			return err
		}
	}
	if _, refers := o.Get("$ref"); !refers || c.beside {
		return nil
	}
	for _, key := range asserting {
		if _, ok := o.Get(key); ok {
			return c.in(key, func() error {
				return c.fail("before 2019-09, what stands beside $ref is ignored; put the $ref into allOf")
			})
		}
	}
	return nil
}

func (c *compiler) anchor(n *node, name string) error {
	if _, ok := c.anchors[name]; ok {
		return c.fail("an anchor that is there twice")
	}
	c.anchors[name] = n
	return nil
}

var typeNames = map[string]kinds{
	"null": isNull, "boolean": isBoolean, "string": isString, "array": isArray, "object": isObject, "integer": isInteger, "number": isNumber,
}

// kinds compiles type, enum and const.
func (c *compiler) kinds(n *node, o *strictjson.Object) error {
	if v, ok := o.Get("type"); ok {
		list, several := v.([]strictjson.Value)
		if !several {
			list = []strictjson.Value{v}
		}
		for _, e := range list {
			name, _ := e.(string)
			k, ok := typeNames[name]
			if !ok {
				return c.in("type", func() error {
					return c.fail("want null, boolean, integer, number, string, array or object, or an array of them")
				})
			}
			n.types |= k
		}
		if n.types == 0 {
			return c.in("type", func() error { return c.fail("want at least one type") })
		}
	}
	if v, ok := o.Get("enum"); ok {
		list, ok := v.([]strictjson.Value)
		if !ok {
			return c.in("enum", func() error { return c.fail("want an array") })
		}
		n.enum = append([]strictjson.Value{}, list...)
	}
	v, ok := o.Get("const")
	switch {
	case !ok:
	case n.enum == nil || value.Contains(n.enum, v):
		n.enum = []strictjson.Value{v}
	default:
		n.enum = []strictjson.Value{}
	}
	return nil
}

// numbers compiles what is said of numbers.
func (c *compiler) numbers(n *node, o *strictjson.Object) error {
	var rules numberRules
	said := false
	for key, field := range map[string]*strictjson.Value{
		"multipleOf": &rules.multipleOf, "maximum": &rules.maximum, "minimum": &rules.minimum,
		"exclusiveMaximum": &rules.below, "exclusiveMinimum": &rules.above,
	} {
		v, ok := o.Get(key)
		if !ok {
			continue
		}
		if kindOf(v)&isNumber == 0 || key == "multipleOf" && value.Compare(v, int64(0)) <= 0 {
			return c.in(key, func() error {
				if key == "multipleOf" {
					return c.fail("want a number above 0")
				}
				return c.fail("want a number")
			})
		}
		*field, said = v, true
	}
	if said {
		n.num = &rules
	}
	return nil
}

// strings compiles what is said of strings.
func (c *compiler) strings(n *node, o *strictjson.Object) error {
	shortest, hasShortest, err := c.count(o, "minLength", 0)
	if err != nil {
		return err
	}
	longest, hasLongest, err := c.count(o, "maxLength", -1)
	if err != nil {
		return err
	}
	v, hasPattern := o.Get("pattern")
	if !hasShortest && !hasLongest && !hasPattern {
		return nil
	}
	n.str = &stringRules{shortest: shortest, longest: longest}
	if !hasPattern {
		return nil
	}
	return c.in("pattern", func() error {
		s, ok := v.(string)
		if !ok {
			return c.fail("want a string")
		}
		n.str.pattern, err = c.pattern(s)
		return err
	})
}

// count returns the number called key of o, and whether there is one.
func (c *compiler) count(o *strictjson.Object, key string, otherwise int) (int, bool, error) {
	v, ok := o.Get(key)
	if !ok {
		return otherwise, false, nil
	}
	i, isInt := v.(int64)
	if !isInt || i < 0 {
		return 0, true, c.in(key, func() error { return c.fail("want an integer from 0 on") })
	}
	return int(i), true, nil
}

// flag returns the boolean called key of o.
func (c *compiler) flag(o *strictjson.Object, key string) (bool, error) {
	v, ok := o.Get(key)
	if !ok {
		return false, nil
	}
	b, isBool := v.(bool)
	if !isBool {
		return false, c.in(key, func() error { return c.fail("want true or false") })
	}
	return b, nil
}

// pattern compiles a regular expression.
func (c *compiler) pattern(expr string) (*ecma.Pattern, error) {
	if len(expr) > maxPattern {
		return nil, c.fail("a pattern of %d bytes; at most %d are allowed", len(expr), maxPattern)
	}
	p, err := ecma.Compile(expr)
	if err != nil {
		return nil, c.fail("the pattern: %v", err)
	}
	return p, nil
}
