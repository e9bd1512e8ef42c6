package rule

import (
	"math/bits"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/value"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// marks are the members of an object, or the elements of an array, that some
// schema has evaluated.
type marks struct {
	all bool
	// names is whether one of the schemas has properties or patternProperties.
	names bool
	few   uint64
	more  []uint64
}

func (m *marks) set(i int) {
	if i < 64 {
		m.few |= 1 << i
		return
	}
	word := i/64 - 1
	for len(m.more) <= word {
		m.more = append(m.more, 0)
	}
	m.more[word] |= 1 << (i % 64)
}

func (m *marks) has(i int) bool {
	if i < 64 {
		return m.few&(1<<i) != 0
	}
	word := i/64 - 1
	return word < len(m.more) && m.more[word]&(1<<(i%64)) != 0
}

// first reports whether the first n, at most 64, are all there are and marked.
func (m *marks) first(n int) bool { return n <= 64 && bits.OnesCount64(m.few) == n }

func (m *marks) merge(other *marks) {
	m.all = m.all || other.all
	m.names = m.names || other.names
	m.few |= other.few
	for i, w := range other.more {
		if i == len(m.more) {
			m.more = append(m.more, 0)
		}
		m.more[i] |= w
	}
}

func (r *run) object(rules *objectRules, o *strictjson.Object, m *marks) bool {
	if o.Len() < rules.fewest {
		return r.explain && r.fail(atLeast(rules.fewest, "member"))
	}
	if rules.most >= 0 && o.Len() > rules.most {
		return r.explain && r.fail(atMost(rules.most, "member"))
	}
	if !r.required(rules.required, o) {
		return false
	}
	for i := range rules.needs {
		if _, there := o.Get(rules.needs[i].member); there && !r.required(rules.needs[i].required, o) {
			return false
		}
	}
	m.names = rules.names
	if !rules.names && rules.additional == nil && rules.memberNames == nil {
		return true
	}
	i := 0
	for name, v := range o.All() {
		if rules.memberNames != nil && !r.member(rules.memberNames, name, name) {
			return false
		}
		named := false
		if n, ok := rules.properties[name]; ok {
			named = true
			if !r.member(n, name, v) {
				return false
			}
		}
		for j := range rules.patterns {
			if !r.pay(1+len(name)/16) || !rules.patterns[j].pattern.MatchString(name) {
				continue
			}
			named = true
			if !r.member(rules.patterns[j].node, name, v) {
				return false
			}
		}
		if !named && rules.additional != nil && !r.member(rules.additional, name, v) {
			return false
		}
		if named {
			m.set(i)
		}
		i++
	}
	m.all = rules.additional != nil
	return true
}

func (r *run) required(names []string, o *strictjson.Object) bool {
	for _, name := range names {
		if _, ok := o.Get(name); !ok {
			return r.explain && r.missing(name)
		}
	}
	return true
}

// unevaluated applies n to what nothing else has evaluated.
func (r *run) unevaluated(n *node, v strictjson.Value, m *marks) bool {
	if m.all {
		return true
	}
	i := 0
	switch v := v.(type) {
	case *strictjson.Object:
		for name, e := range v.All() {
			if !m.has(i) && !r.member(n, name, e) {
				return false
			}
			i++
		}
	case []strictjson.Value:
		for i, e := range v {
			if !m.has(i) && !r.element(n, i, e) {
				return false
			}
		}
	}
	m.all = true
	return true
}

// member applies n to a member of an object.
func (r *run) member(n *node, name string, v strictjson.Value) bool {
	if !r.explain {
		return r.level(n, v, false)
	}
	r.place = append(r.place, Step(name, false))
	ok := r.level(n, v, false)
	r.place = r.place[:len(r.place)-1]
	return ok
}

// element applies n to an element of an array.
func (r *run) element(n *node, i int, v strictjson.Value) bool {
	if !r.explain {
		return r.level(n, v, false)
	}
	r.place = append(r.place, Index(i))
	ok := r.level(n, v, false)
	r.place = r.place[:len(r.place)-1]
	return ok
}

// fewElements are compared with each other one by one.
const fewElements = 8

func (r *run) unique(list []strictjson.Value) bool {
	if len(list) <= fewElements {
		for i, e := range list {
			if value.Contains(list[:i], e) {
				return false
			}
		}
		return true
	}
	seen := make(map[string]struct{}, len(list))
	var form []byte
	for _, e := range list {
		form = strictjson.Canonical(form[:0], e)
		if _, ok := seen[string(form)]; ok || !r.pay(1+len(form)/16) {
			return false
		}
		seen[string(form)] = struct{}{}
	}
	return true
}
