package rule

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/word"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// dialects are the values of $schema that are known, and whether what stands
// beside a $ref counts.
var dialects = map[string]bool{
	"": true,
	"https://json-schema.org/draft/2020-12/schema": true,
	"https://json-schema.org/draft/2019-09/schema": true,
	"http://json-schema.org/draft-07/schema":       false,
	"http://json-schema.org/draft-06/schema":       false,
}

// A compiler makes nodes of one text.
type compiler struct {
	root    *strictjson.Object
	beside  bool // whether what stands beside a $ref counts
	nodes   map[*strictjson.Object]*node
	anchors map[string]*node
	// pending are the references to resolve once all anchors are known.
	pending []reference
	// place is the JSON pointer of the value that is being compiled.
	place []string
}

type reference struct {
	from  *node
	to    string
	place string
}

func compile(root *strictjson.Object) (*node, error) {
	c := compiler{root: root, nodes: make(map[*strictjson.Object]*node), anchors: make(map[string]*node)}
	dialect, _ := root.String("$schema")
	var known bool
	if c.beside, known = dialects[strings.TrimSuffix(strings.Replace(dialect, "https://json-schema.org/draft-", "http://json-schema.org/draft-", 1), "#")]; !known {
		c.place = []string{"$schema"}
		return nil, c.fail("a dialect that is not known; use JSON Schema 2020-12")
	}
	n, err := c.schema(root)
	if err != nil {
		return nil, err
	}
	for len(c.pending) > 0 {
		r := c.pending[0]
		c.pending = c.pending[1:]
		if r.from.ref, err = c.resolve(r); err != nil {
			return nil, err
		}
	}
	heights := make(map[*node]int)
	for _, m := range c.nodes {
		if _, err := height(m, heights); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// fail says what is wrong at the place that is being compiled.
func (c *compiler) fail(format string, args ...any) error {
	return failAt(pointerTo(c.place), format, args...)
}

func failAt(place, format string, args ...any) error {
	if place != "" {
		place = " at " + place
	}
	return fmt.Errorf("%w schema%s: %s", ErrInvalid, place, fmt.Sprintf(format, args...))
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func pointerTo(place []string) string {
	var b strings.Builder
	for _, p := range place {
		b.WriteByte('/')
		b.WriteString(pointerEscapes.Replace(word.Show(p, maxName)))
	}
	return b.String()
}

// in compiles something one step below the place.
func (c *compiler) in(step string, f func() error) error {
	c.place = append(c.place, step)
	err := f()
	c.place = c.place[:len(c.place)-1]
	return err
}

// schema compiles the value at the place.
func (c *compiler) schema(v strictjson.Value) (*node, error) {
	switch v := v.(type) {
	case bool:
		return &node{never: !v}, nil
	case *strictjson.Object:
		if n, ok := c.nodes[v]; ok {
			return n, nil
		}
		n := &node{}
		c.nodes[v] = n
		return n, c.object(n, v)
	default:
		return nil, c.fail("a schema is an object, true or false")
	}
}

// below compiles the schema called key of o, if there is one.
func (c *compiler) below(o *strictjson.Object, key string) (n *node, err error) {
	v, ok := o.Get(key)
	if !ok {
		return nil, nil
	}
	err = c.in(key, func() error { n, err = c.schema(v); return err })
	return n, err
}

// list compiles the array of schemas called key of o, if there is one.
func (c *compiler) list(o *strictjson.Object, key string) (nodes []*node, err error) {
	v, ok := o.Get(key)
	if !ok {
		return nil, nil
	}
	err = c.in(key, func() error {
		list, ok := v.([]strictjson.Value)
		if !ok || len(list) == 0 {
			return c.fail("want an array of schemas")
		}
		for i, e := range list {
			err := c.in(strconv.Itoa(i), func() error {
				n, err := c.schema(e)
				nodes = append(nodes, n)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return nodes, err
}

// each calls f with every member of the object called key of o.
func (c *compiler) each(o *strictjson.Object, key string, f func(name string, v strictjson.Value) error) error {
	v, ok := o.Get(key)
	if !ok {
		return nil
	}
	return c.in(key, func() error {
		members, ok := v.(*strictjson.Object)
		if !ok {
			return c.fail("want an object")
		}
		for name, v := range members.All() {
			if err := c.in(name, func() error { return f(name, v) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// resolve finds what a $ref means: the text itself, or a place or an anchor in
// it.
func (c *compiler) resolve(r reference) (*node, error) {
	fragment, ok := strings.CutPrefix(r.to, "#")
	if !ok {
		return nil, failAt(r.place, "it refers to elsewhere; a schema must be complete")
	}
	fragment, ok = unescape(fragment)
	if !ok {
		return nil, failAt(r.place, "not a reference")
	}
	if n, ok := c.anchors[fragment]; ok && fragment != "" {
		return n, nil
	}
	if fragment != "" && fragment[0] != '/' {
		return nil, failAt(r.place, "there is no such anchor")
	}
	var v strictjson.Value = c.root
	c.place = c.place[:0]
	for _, step := range strings.Split(fragment, "/")[1:] {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		found := false
		switch in := v.(type) {
		case *strictjson.Object:
			v, found = in.Get(step)
		case []strictjson.Value:
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(in) && strconv.Itoa(i) == step {
				v, found = in[i], true
			}
		}
		if !found {
			return nil, failAt(r.place, "there is nothing where it refers to")
		}
		c.place = append(c.place, step)
	}
	n, err := c.schema(v)
	c.place = c.place[:0]
	return n, err
}

// unescape undoes the escapes of a URI's fragment.
func unescape(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b = append(b, byte(c))
		i += 2
	}
	return string(b), true
}

// onTheWay marks a node whose height is being computed.
const onTheWay = -1

// height returns how many schemas apply to one value by way of n, and refuses
// those that never end or are too many.
func height(n *node, heights map[*node]int) (int, error) {
	h, seen := heights[n]
	if h == onTheWay {
		return 0, failAt("", "a schema that refers to itself for the same value")
	}
	if seen {
		return h, nil
	}
	heights[n] = onTheWay
	var err error
	n.beside(func(m *node) {
		below, failed := height(m, heights)
		if err == nil {
			err = failed
		}
		h = max(h, below)
	})
	if err == nil && h >= MaxDepth {
		err = failAt("", "more than %d schemas that apply to one value by way of each other", MaxDepth)
	}
	n.apart = h > 0
	heights[n] = h + 1
	return h + 1, err
}
