package pin

import (
	"hash/maphash"
	"strings"
	"sync"

	"github.com/reeve-authz/reeve/sidecar/schema"
)

const (
	// maxFresh is how many bytes of items are read of one list that passes, only
	// to take note of them. The rest is read when the list passes again.
	maxFresh = 128 << 10
	// maxPassed is how many tools are remembered of which note was taken. All are
	// forgotten for one more.
	maxPassed = 4096
)

// An Observer takes note of how servers define their tools. It is called by many
// goroutines at once, as often as a definition is seen, and must not block.
// digest is of definition, which is in canonical form and may be kept.
type Observer interface {
	// Withheld says that server, by id, lists tool with another definition than
	// the one that was accepted.
	Withheld(server, tool, digest, definition string)
	// Unpinned says how server lists a tool of which nothing was accepted, as far
	// as is known here. It returns false if it wants to be told again.
	Unpinned(server, tool, digest, definition string) bool
	// Accepted says that server lists tool as it was accepted.
	Accepted(server, tool, digest, definition string)
}

// observe takes note of a definition. False is that it should be again.
func (l *Lists) observe(server, tool, digest, definition, pinned string) bool {
	switch pinned {
	case "":
		return l.observer.Unpinned(server, tool, digest, definition)
	case digest:
		l.observer.Accepted(server, tool, digest, definition)
	default:
		l.observer.Withheld(server, tool, digest, definition)
	}
	return true
}

// A Passing is one list that passes to the agent. It is not safe for concurrent
// use.
type Passing struct {
	lists  *Lists
	server string
	left   int // bytes that may still be read only to take note
}

// Passing returns one for a list of server.
func (l *Lists) Passing(server string) *Passing {
	return &Passing{lists: l, server: server, left: maxFresh}
}

// Item reports whether an item of tools/list may be shown to the agent, which may
// see its tool or not: if so, it is shown unless it is not what was accepted of the
// tool, and then what was remembered of the server is forgotten. Note is taken of
// the item; for one that is hidden or not pinned that costs a hash of its bytes,
// unless it is new.
func (p *Passing) Item(tool string, item []byte, visible bool) bool {
	pinned := p.lists.pinned(p.server, tool)
	if !visible || pinned == "" {
		p.note(tool, item, pinned)
		return visible
	}
	digest, definition, err := schema.Digest(item)
	if err == nil {
		p.lists.observe(p.server, tool, digest, definition, pinned)
	}
	if err == nil && digest == pinned {
		return true
	}
	p.lists.Drop(p.server)
	return false
}

// note takes note of an item, unless it was when the tool was last listed.
func (p *Passing) note(tool string, item []byte, pinned string) {
	if len(tool) > maxName || len(item) > schema.MaxSize || len(item) > p.left {
		return
	}
	l := p.lists
	sum, known := l.passed.known(p.server, tool, pinned, item)
	if known {
		return
	}
	p.left -= len(item)
	o, name := read(item)
	if o != nil && name == tool {
		digest, definition, err := schema.DigestObject(o)
		if err == nil && !l.observe(p.server, tool, digest, definition, pinned) {
			return
		}
	}
	l.passed.add(p.server, tool, sum)
}

// passed are the items that passed, by hash.
type passed struct {
	seed maphash.Seed
	mu   *sync.Mutex
	sums map[listed]uint64
}

type listed struct{ server, tool string }

func newPassed() passed {
	return passed{maphash.MakeSeed(), new(sync.Mutex), make(map[listed]uint64)}
}

// known reports whether note was taken of item while pinned was accepted, and
// returns its hash.
func (p *passed) known(server, tool, pinned string, item []byte) (sum uint64, known bool) {
	var h maphash.Hash
	h.SetSeed(p.seed)
	_, _ = h.WriteString(pinned) // never fails
	_ = h.WriteByte(0)
	_, _ = h.Write(item)
	sum = h.Sum64()
	p.mu.Lock()
	defer p.mu.Unlock()
	before, ok := p.sums[listed{server, tool}]
	return sum, ok && before == sum
}

func (p *passed) add(server, tool string, sum uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sums) >= maxPassed {
		clear(p.sums)
	}
	p.sums[listed{server, strings.Clone(tool)}] = sum
}
