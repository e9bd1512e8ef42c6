package rule

import (
	"unicode/utf8"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/value"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// A run is one look at one value.
type run struct {
	// steps is how much more may be done. Below zero, every answer is false and
	// means nothing.
	steps int
	// open is whether members that nobody names are let through.
	open bool
	// explain is whether to find out what is wrong; then place is where the run
	// is, and found what it found.
	explain bool
	place   []string
	found   *ArgumentError
}

// spent reports whether the run ended for want of steps.
func (r *run) spent() bool { return r.steps < 0 }

// pay takes what work costs beyond one step, and reports whether it is there.
func (r *run) pay(n int) bool {
	r.steps -= n
	return r.steps >= 0
}

// level reports whether v satisfies n, everything that applies beside n, and
// the rule about members that nobody names. outermost is whether v is the
// object as a whole.
func (r *run) level(n *node, v strictjson.Value, outermost bool) bool {
	if r.explain && !r.allNamed(n, v, outermost) {
		return false
	}
	m, ok := r.apply(n, v)
	if !ok || m.all || r.open || !outermost && !m.names {
		return ok
	}
	o, isObject := v.(*strictjson.Object)
	if !isObject || m.first(o.Len()) {
		return ok
	}
	i := 0
	for name := range o.All() {
		if !m.has(i) {
			r.unnamed(n, name)
			return false
		}
		i++
	}
	return ok
}

// apply reports whether v satisfies n and what applies beside it, and which
// members or elements of v are thereby evaluated, as JSON Schema calls it.
func (r *run) apply(n *node, v strictjson.Value) (m marks, ok bool) {
	if !r.pay(1) {
		return m, false
	}
	if n.never {
		return m, r.fail("nothing may be here")
	}
	if n.types != 0 && n.types&kindOf(v) == 0 {
		return m, r.explain && r.fail("want "+n.types.String())
	}
	if n.enum != nil && (!r.pay(len(n.enum)/8) || !value.Contains(n.enum, v)) {
		return m, r.explain && r.fail(oneOfThese(n.enum))
	}
	var rest *node
	switch v := v.(type) {
	case string:
		ok = n.str == nil || r.text(n.str, v)
	case int64, float64:
		ok = n.num == nil || r.number(n.num, v)
	case []strictjson.Value:
		ok = n.arr == nil || r.array(n.arr, v, &m)
		if n.arr != nil {
			rest = n.arr.unevaluated
		}
	case *strictjson.Object:
		ok = n.obj == nil || r.object(n.obj, v, &m)
		if n.obj != nil {
			rest = n.obj.unevaluated
		}
	default:
		ok = true
	}
	if ok && n.apart {
		ok = r.beside(n, v, &m)
	}
	if ok && rest != nil {
		ok = r.unevaluated(rest, v, &m)
	}
	return m, ok
}

func (r *run) text(rules *stringRules, s string) bool {
	if rules.shortest > 0 || rules.longest >= 0 {
		n := len(s)
		if n >= rules.shortest { // the number of bytes may do
			n = utf8.RuneCountInString(s)
		}
		if n < rules.shortest {
			return r.explain && r.fail(atLeast(rules.shortest, "character"))
		}
		if rules.longest >= 0 && n > rules.longest {
			return r.explain && r.fail(atMost(rules.longest, "character"))
		}
	}
	if rules.pattern == nil {
		return true
	}
	if !r.pay(len(s) / 16) {
		return false
	}
	return rules.pattern.MatchString(s) || r.explain && r.fail("does not match the pattern that the schema gives")
}

func (r *run) number(rules *numberRules, v strictjson.Value) bool {
	switch {
	case rules.minimum != nil && value.Compare(v, rules.minimum) < 0:
		return r.explain && r.fail("want at least "+text(rules.minimum))
	case rules.above != nil && value.Compare(v, rules.above) <= 0:
		return r.explain && r.fail("want more than "+text(rules.above))
	case rules.maximum != nil && value.Compare(v, rules.maximum) > 0:
		return r.explain && r.fail("want at most "+text(rules.maximum))
	case rules.below != nil && value.Compare(v, rules.below) >= 0:
		return r.explain && r.fail("want less than "+text(rules.below))
	case rules.multipleOf != nil && (!r.pay(10) || !value.Multiple(v, rules.multipleOf)):
		return r.explain && r.fail("want a multiple of "+text(rules.multipleOf))
	}
	return true
}

func (r *run) array(rules *arrayRules, list []strictjson.Value, m *marks) bool {
	if len(list) < rules.fewest {
		return r.explain && r.fail(atLeast(rules.fewest, "element"))
	}
	if rules.most >= 0 && len(list) > rules.most {
		return r.explain && r.fail(atMost(rules.most, "element"))
	}
	for i, e := range list {
		of := rules.items
		if i < len(rules.prefix) {
			of = rules.prefix[i]
			m.set(i)
		}
		if of != nil && !r.element(of, i, e) {
			return false
		}
	}
	if rules.items != nil {
		m.all = true
	}
	if rules.contains != nil && !r.contained(rules, list, m) {
		return false
	}
	return !rules.unique || r.unique(list) || r.explain && r.fail("want elements that are all different")
}

// contained counts the elements that satisfy contains.
func (r *run) contained(rules *arrayRules, list []strictjson.Value, m *marks) bool {
	n := 0
	for i, e := range list {
		var ignored marks
		if r.satisfies(rules.contains, e, &ignored) {
			m.set(i)
			n++
		}
	}
	if n < rules.fewestContained {
		return r.explain && r.fail(atLeast(rules.fewestContained, "element")+" of the kind that the schema says it contains")
	}
	if rules.mostContained >= 0 && n > rules.mostContained {
		return r.explain && r.fail(atMost(rules.mostContained, "element")+" of the kind that the schema says it contains")
	}
	return true
}

// beside applies what else applies to the same value as n.
func (r *run) beside(n *node, v strictjson.Value, m *marks) bool {
	if n.ref != nil && !r.with(n.ref, v, m) {
		return false
	}
	for _, a := range n.all {
		if !r.with(a, v, m) {
			return false
		}
	}
	if n.anyOf != nil && !r.some(n.anyOf, v, m) || n.oneOf != nil && !r.one(n.oneOf, v, m) {
		return false
	}
	if n.not != nil {
		var ignored marks
		if r.satisfies(n.not, v, &ignored) {
			return r.fail("it is what the schema excludes")
		}
	}
	if n.condition != nil {
		next := n.then
		if !r.satisfies(n.condition, v, m) {
			next = n.otherwise
		}
		if next != nil && !r.with(next, v, m) {
			return false
		}
	}
	o, isObject := v.(*strictjson.Object)
	if n.obj == nil || !isObject {
		return true
	}
	for i := range n.obj.needs {
		if d := &n.obj.needs[i]; d.node != nil {
			if _, there := o.Get(d.member); there && !r.with(d.node, v, m) {
				return false
			}
		}
	}
	return true
}

// with applies n to the same value, and takes over its marks.
func (r *run) with(n *node, v strictjson.Value, m *marks) bool {
	other, ok := r.apply(n, v)
	if ok {
		m.merge(&other)
	}
	return ok
}

// quietly is with, where it is no problem if v does not satisfy n.
func (r *run) quietly(n *node, v strictjson.Value, m *marks) bool {
	explain := r.explain
	r.explain = false
	ok := r.with(n, v, m)
	r.explain = explain
	return ok
}

// satisfies reports whether v satisfies n as JSON Schema has it: what decides
// which schemas apply must not depend on the rule about names.
func (r *run) satisfies(n *node, v strictjson.Value, m *marks) bool {
	open := r.open
	r.open = true
	ok := r.quietly(n, v, m)
	r.open = open
	return ok
}

// some applies alternatives, of which at least one must do.
func (r *run) some(alternatives []*node, v strictjson.Value, m *marks) bool {
	found := false
	for _, a := range alternatives {
		if r.quietly(a, v, m) {
			found = true
		}
	}
	return found && !r.spent() || r.explain && r.none(alternatives, v)
}

// one applies alternatives, of which exactly one must do.
func (r *run) one(alternatives []*node, v strictjson.Value, m *marks) bool {
	var found *node
	for _, a := range alternatives {
		var ignored marks
		if !r.satisfies(a, v, &ignored) {
			continue
		}
		if found != nil {
			return r.fail("it fits more than one of the alternatives, and must fit one")
		}
		found = a
	}
	if found == nil || r.spent() {
		return r.explain && r.none(alternatives, v)
	}
	return r.with(found, v, m)
}
