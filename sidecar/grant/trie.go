package grant

import (
	"math/bits"
	"slices"
)

// A trie is a persistent hash map: changing it makes another that shares all
// but the path that changed, and the old one stays as it was. Nodes branch 32
// ways on five bits of the hash at a time.
type trie[K comparable, V keyed[K]] struct {
	root node[K, V] // in place, to save a step
	len  int
}

// keyed is a value that knows its key. It is a pointer.
type keyed[K comparable] interface {
	comparable
	key() K
}

// An edit marks the nodes that were made for one change: nobody else has seen
// them, so that the same change may write to them again.
type edit struct{ _ byte }

// fanBits is how many bits of the hash a level uses.
const fanBits = 5

// A node holds the slots whose bits are set in bitmap, in that order. At the
// end of the hash it is a plain list.
type node[K comparable, V keyed[K]] struct {
	bitmap uint32
	slots  []slot[K, V]
	made   *edit
}

// A slot is either a value and its whole hash, or a node below.
type slot[K comparable, V keyed[K]] struct {
	hash  uint64
	value V
	below *node[K, V]
}

// get returns the value with this key, and its hash; the zero V if there is
// none.
func (t *trie[K, V]) get(hash uint64, key K) (v V) {
	n := &t.root
	for shift := uint(0); n != nil; shift += fanBits {
		if shift >= 64 {
			if i := n.find(key); i >= 0 {
				v = n.slots[i].value
			}
			return v
		}
		bit := uint32(1) << (hash >> shift & 31)
		if n.bitmap&bit == 0 {
			return v
		}
		s := &n.slots[bits.OnesCount32(n.bitmap&(bit-1))]
		if s.below == nil {
			if s.hash == hash && s.value.key() == key {
				v = s.value
			}
			return v
		}
		n = s.below
	}
	return v
}

// put returns a trie in which v is in place of what had its key.
func (t trie[K, V]) put(e *edit, hash uint64, v V) trie[K, V] {
	root, added := t.root.put(e, 0, hash, v)
	if added {
		t.len++
	}
	t.root = *root
	return t
}

// remove returns a trie that has no value with this key.
func (t trie[K, V]) remove(e *edit, hash uint64, key K) trie[K, V] {
	root, removed := t.root.remove(e, 0, hash, key)
	if removed {
		t.len--
	}
	if root == nil {
		root = &node[K, V]{}
	}
	t.root = *root
	return t
}

// all calls yield with each value until it returns false, and reports whether
// it never did.
func (n *node[K, V]) all(yield func(V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.slots {
		s := &n.slots[i]
		if s.below != nil && !s.below.all(yield) || s.below == nil && !yield(s.value) {
			return false
		}
	}
	return true
}

// find returns the position of key in the list at the end of a hash, or -1.
func (n *node[K, V]) find(key K) int {
	return slices.IndexFunc(n.slots, func(s slot[K, V]) bool { return s.value.key() == key })
}

// own returns n if e made it, and otherwise a copy that e made.
func (n *node[K, V]) own(e *edit) *node[K, V] {
	if n.made == e {
		return n
	}
	slots := make([]slot[K, V], len(n.slots), len(n.slots)+1)
	copy(slots, n.slots)
	return &node[K, V]{bitmap: n.bitmap, slots: slots, made: e}
}

func (n *node[K, V]) put(e *edit, shift uint, hash uint64, v V) (_ *node[K, V], added bool) {
	if n == nil {
		n = &node[K, V]{made: e}
	}
	n = n.own(e)
	if shift >= 64 {
		if i := n.find(v.key()); i >= 0 {
			n.slots[i].value = v
			return n, false
		}
		n.slots = append(n.slots, slot[K, V]{hash: hash, value: v})
		return n, true
	}
	bit := uint32(1) << (hash >> shift & 31)
	at := bits.OnesCount32(n.bitmap & (bit - 1))
	if n.bitmap&bit == 0 {
		n.bitmap |= bit
		n.slots = slices.Insert(n.slots, at, slot[K, V]{hash: hash, value: v})
		return n, true
	}
	s := &n.slots[at]
	if s.below == nil {
		if s.hash == hash && s.value.key() == v.key() {
			s.value = v
			return n, false
		}
		// Two values share these bits: both move a level down.
		s.below, _ = s.below.put(e, shift+fanBits, s.hash, s.value)
		var none V
		s.hash, s.value = 0, none
	}
	s.below, added = s.below.put(e, shift+fanBits, hash, v)
	return n, added
}

func (n *node[K, V]) remove(e *edit, shift uint, hash uint64, key K) (_ *node[K, V], removed bool) {
	if n == nil {
		return nil, false
	}
	if shift >= 64 {
		i := n.find(key)
		if i < 0 {
			return n, false
		}
		n = n.own(e)
		n.slots = slices.Delete(n.slots, i, i+1)
		return n.orNil(), true
	}
	bit := uint32(1) << (hash >> shift & 31)
	at := bits.OnesCount32(n.bitmap & (bit - 1))
	if n.bitmap&bit == 0 {
		return n, false
	}
	s := n.slots[at]
	if s.below == nil {
		if s.hash != hash || s.value.key() != key {
			return n, false
		}
		n = n.own(e)
		n.bitmap &^= bit
		n.slots = slices.Delete(n.slots, at, at+1)
		return n.orNil(), true
	}
	below, removed := s.below.remove(e, shift+fanBits, hash, key)
	if !removed {
		return n, false
	}
	n = n.own(e)
	switch {
	case below == nil:
		n.bitmap &^= bit
		n.slots = slices.Delete(n.slots, at, at+1)
		return n.orNil(), true
	case len(below.slots) == 1 && below.slots[0].below == nil:
		// A value alone moves a level up, so that what is left does not depend
		// on what was there.
		n.slots[at] = below.slots[0]
	default:
		n.slots[at].below = below
	}
	return n, true
}

func (n *node[K, V]) orNil() *node[K, V] {
	if len(n.slots) == 0 {
		return nil
	}
	return n
}
