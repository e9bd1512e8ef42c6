package grant

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

type pair struct {
	k uint16
	v int
}

func (p *pair) key() uint16 { return p.k }

func contents(t *trie[uint16, *pair]) map[uint16]int {
	all := make(map[uint16]int)
	t.root.all(func(p *pair) bool {
		all[p.k] = p.v
		return true
	})
	return all
}

// TestTrieIsAMap: it does what a map does, keeps what it was, and survives
// hashes that collide in part or whole.
func TestTrieIsAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mask := rapid.SampledFrom([]uint64{0, 1, 1 << 63, 0x1f, 0xf00000000000001f, ^uint64(0)}).Draw(t, "mask")
		hash := func(k uint16) uint64 { return uint64(k) * 0x9e3779b97f4a7c15 & mask }
		var now trie[uint16, *pair]
		model := make(map[uint16]int)
		type past struct {
			trie  trie[uint16, *pair]
			model map[uint16]int
		}
		var pasts []past
		keys := rapid.Uint16Range(0, 60)
		for range rapid.IntRange(1, 10).Draw(t, "changes") {
			e := &edit{}
			for range rapid.IntRange(1, 40).Draw(t, "steps") {
				k := keys.Draw(t, "key")
				if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
					now = now.remove(e, hash(k), k)
					delete(model, k)
				} else {
					v := rapid.Int().Draw(t, "value")
					now = now.put(e, hash(k), &pair{k, v})
					model[k] = v
				}
			}
			pasts = append(pasts, past{now, maps.Clone(model)})
		}
		for i, p := range pasts {
			if !maps.Equal(contents(&p.trie), p.model) || p.trie.len != len(p.model) {
				t.Fatalf("after change %d: got %v (%d), want %v", i, contents(&p.trie), p.trie.len, p.model)
			}
			for k := range uint16(61) {
				got, want := p.trie.get(hash(k), k), p.model[k]
				if (got != nil) != contains(p.model, k) || got != nil && got.v != want {
					t.Fatalf("after change %d: %d is %v, want %d", i, k, got, want)
				}
			}
		}
		e := &edit{}
		for k := range model {
			now = now.remove(e, hash(k), k)
		}
		if now.len != 0 || now.root.bitmap != 0 || len(now.root.slots) != 0 {
			t.Fatalf("emptied, it is %+v", now)
		}
	})
}

func contains(m map[uint16]int, k uint16) bool {
	_, ok := m[k]
	return ok
}
