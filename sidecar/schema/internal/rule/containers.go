package rule

import (
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// arrays compiles what is said of arrays, but for their elements.
func (c *compiler) arrays(n *node, o *strictjson.Object) error {
	rules := arrayRules{}
	var err error
	var said, is bool
	for key, field := range map[string]*int{
		"minItems": &rules.fewest, "maxItems": &rules.most, "minContains": &rules.fewestContained, "maxContains": &rules.mostContained,
	} {
		otherwise := -1
		switch key {
		case "minItems":
			otherwise = 0
		case "minContains":
			otherwise = 1
		}
		if *field, is, err = c.count(o, key, otherwise); err != nil {
			return err
		}
		said = said || is
	}
	if rules.unique, err = c.flag(o, "uniqueItems"); err != nil {
		return err
	}
	if rules.contains, err = c.below(o, "contains"); err != nil {
		return err
	}
	if rules.unevaluated, err = c.below(o, "unevaluatedItems"); err != nil {
		return err
	}
	if said || rules.unique || rules.contains != nil || rules.unevaluated != nil {
		n.arr = &rules
	}
	return nil
}

// arrayMembers compiles what is said of the elements of arrays. Before 2020-12,
// items was what is prefixItems now, and additionalItems what is items.
func (c *compiler) arrayMembers(n *node, o *strictjson.Object) error {
	prefix, err := c.list(o, "prefixItems")
	if err != nil {
		return err
	}
	rest := "items"
	if v, _ := o.Get("items"); kindOf(v) == isArray {
		if prefix != nil {
			return c.in("items", func() error { return c.fail("want a schema, since there are prefixItems") })
		}
		rest = "additionalItems"
		if list, _ := v.([]strictjson.Value); len(list) > 0 {
			if prefix, err = c.list(o, "items"); err != nil {
				return err
			}
		}
	}
	items, err := c.below(o, rest)
	if err != nil {
		return err
	}
	if prefix == nil && items == nil {
		return nil
	}
	if n.arr == nil {
		n.arr = &arrayRules{most: -1, mostContained: -1, fewestContained: 1}
	}
	n.arr.prefix, n.arr.items = prefix, items
	return nil
}

// objects compiles what is said of objects, but for what members need.
func (c *compiler) objects(n *node, o *strictjson.Object) error {
	rules := objectRules{}
	var err error
	var fewest, most bool
	if rules.fewest, fewest, err = c.count(o, "minProperties", 0); err != nil {
		return err
	}
	if rules.most, most, err = c.count(o, "maxProperties", -1); err != nil {
		return err
	}
	if rules.required, err = c.names(o, "required"); err != nil {
		return err
	}
	err = c.each(o, "properties", func(name string, v strictjson.Value) error {
		if rules.properties == nil {
			rules.properties = make(map[string]*node)
		}
		rules.properties[name], err = c.schema(v)
		return err
	})
	if err != nil {
		return err
	}
	err = c.each(o, "patternProperties", func(name string, v strictjson.Value) error {
		p, err := c.pattern(name)
		if err != nil {
			return err
		}
		m, err := c.schema(v)
		rules.patterns = append(rules.patterns, patternRule{p, m})
		return err
	})
	if err != nil {
		return err
	}
	for key, field := range map[string]**node{
		"additionalProperties": &rules.additional, "propertyNames": &rules.memberNames, "unevaluatedProperties": &rules.unevaluated,
	} {
		if *field, err = c.below(o, key); err != nil {
			return err
		}
	}
	_, hasProperties := o.Get("properties")
	_, hasPatterns := o.Get("patternProperties")
	rules.names = hasProperties || hasPatterns
	if fewest || most || rules.required != nil || rules.names || rules.additional != nil || rules.memberNames != nil || rules.unevaluated != nil {
		n.obj = &rules
	}
	return nil
}

// names returns the array of strings called key of o.
func (c *compiler) names(o *strictjson.Object, key string) (names []string, err error) {
	v, ok := o.Get(key)
	if !ok {
		return nil, nil
	}
	err = c.in(key, func() error { names, err = c.words(v); return err })
	return names, err
}

func (c *compiler) words(v strictjson.Value) ([]string, error) {
	list, ok := v.([]strictjson.Value)
	if !ok {
		return nil, c.fail("want an array of strings")
	}
	names := make([]string, len(list))
	for i, e := range list {
		if names[i], ok = e.(string); !ok {
			return nil, c.fail("want an array of strings")
		}
	}
	return names, nil
}

// needs compiles what the presence of members asks for. Before 2019-09 it was
// all called dependencies.
func (c *compiler) needs(n *node, o *strictjson.Object) error {
	var needs []need
	for _, key := range []string{"dependentRequired", "dependentSchemas", "dependencies"} {
		err := c.each(o, key, func(name string, v strictjson.Value) error {
			d := need{member: name}
			var err error
			if kindOf(v) == isArray && key != "dependentSchemas" || key == "dependentRequired" {
				d.required, err = c.words(v)
			} else {
				d.node, err = c.schema(v)
			}
			needs = append(needs, d)
			return err
		})
		if err != nil {
			return err
		}
	}
	if needs == nil {
		return nil
	}
	if n.obj == nil {
		n.obj = &objectRules{most: -1}
	}
	n.obj.needs = needs
	return nil
}

// combine compiles what else applies to the same value.
func (c *compiler) combine(n *node, o *strictjson.Object) error {
	var err error
	for key, field := range map[string]*[]*node{"allOf": &n.all, "anyOf": &n.anyOf, "oneOf": &n.oneOf} {
		if *field, err = c.list(o, key); err != nil {
			return err
		}
	}
	if n.not, err = c.below(o, "not"); err != nil {
		return err
	}
	if n.condition, err = c.below(o, "if"); err != nil {
		return err
	}
	then, err := c.below(o, "then")
	if err != nil {
		return err
	}
	otherwise, err := c.below(o, "else")
	if err != nil {
		return err
	}
	if n.condition != nil {
		n.then, n.otherwise = then, otherwise
	}
	return nil
}
