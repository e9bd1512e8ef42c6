// Package pin holds what servers list against the definitions of tools that were
// accepted.
package pin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/own"
	"github.com/reeve-authz/reeve/sidecar/schema"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

const (
	// maxPlaces is how many places lists are remembered of; any is forgotten for
	// one more.
	maxPlaces = 1024
	// listWithin is how long a server may take to list its tools.
	listWithin = 10 * time.Second
	// maxTools is how many tools are remembered of one list, and maxHeld of all
	// together; any other list is forgotten for one more. maxName is the longest
	// name, in bytes, that a tool of the catalogue can have.
	maxTools, maxHeld, maxName = 10_000, 100_000, 128
	// maxRounds is how often a server is asked for one call, if its list changes
	// each time before it has been read.
	maxRounds = 3
)

// ErrChanged is for a tool that the server does not list as it was accepted: with
// another definition, more than once, or not at all.
var ErrChanged = errors.New("the server does not list the tool as it was accepted")

// Lister asks a server for its tools and calls each with every item.
type Lister interface {
	Tools(ctx context.Context, at own.Place, each func(item []byte)) error
}

// Pinned returns the digest of the definition that was accepted of a tool; empty
// if it is not pinned.
type Pinned func(server, tool string) string

// Lists remembers what servers listed and when they were asked. It is safe for
// concurrent use.
type Lists struct {
	lister   Lister
	pinned   Pinned
	observer Observer
	passed   passed
	clock    func() time.Duration
	running  sync.WaitGroup // of the requests under way; Close waits for them

	mu     sync.Mutex
	closed bool
	places map[own.Place]*place
	held   int // tools, in the lists of all places
	under  map[*asking]struct{}
}

// A place is what is known of one list. Lists.mu guards it.
type place struct {
	// digests are those of the last list, by tool; empty for what occurred twice.
	// Nil if there is none. It is never changed.
	digests map[string]string
	// asked is when the server was asked for it, on the clock.
	asked time.Duration
	// asking is the request under way; nil if there is none.
	asking *asking
}

// An asking is one request for a list.
type asking struct {
	cancel context.CancelFunc
	// dropped is set, under Lists.mu, if the list changed meanwhile.
	dropped bool
	// done is closed when digests or err is set.
	done    chan struct{}
	digests map[string]string
	err     error
}

// New returns Lists that remember nothing. clock must go on while the machine
// sleeps. Close must be called.
func New(lister Lister, pinned Pinned, observer Observer, clock func() time.Duration) *Lists {
	return &Lists{lister: lister, pinned: pinned, observer: observer, passed: newPassed(), clock: clock, places: make(map[own.Place]*place), under: make(map[*asking]struct{})}
}

// Close ends what is under way. Nothing can be checked after it.
func (l *Lists) Close() {
	l.mu.Lock()
	l.closed = true
	for a := range l.under {
		a.cancel()
	}
	l.mu.Unlock()
	l.running.Wait()
}

// Check reports whether the server lists the tool with the definition of this
// digest, by a list that was asked for less than bound ago. If there is none, it
// is asked for one first, once for all who wait; and ahead of time, in the
// background, when half of bound has passed. It returns nil, ErrChanged, or why
// that cannot be known: also if the list changes faster than it can be read.
func (l *Lists) Check(ctx context.Context, at own.Place, tool, digest string, bound time.Duration) error {
	for range maxRounds {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return errors.New("check definition: the sidecar is stopping")
		}
		p := l.place(at)
		age := l.clock() - p.asked
		if p.digests != nil && age >= 0 && age < bound {
			digests := p.digests
			if age > bound/2 {
				l.ask(ctx, at, p)
			}
			l.mu.Unlock()
			return compare(digests, tool, digest)
		}
		a := l.ask(ctx, at, p)
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return fmt.Errorf("check definition: %w", context.Cause(ctx))
		case <-a.done:
		}
		l.mu.Lock()
		dropped := a.dropped
		l.mu.Unlock()
		switch {
		case dropped:
		case a.err != nil:
			return fmt.Errorf("check definition: %w", a.err)
		default:
			return compare(a.digests, tool, digest)
		}
	}
	return errors.New("check definition: the server's list changes faster than it can be read")
}

func compare(digests map[string]string, tool, digest string) error {
	if listed := digests[tool]; listed == "" || listed != digest {
		return ErrChanged
	}
	return nil
}

// Drop forgets what server listed, because that has changed.
func (l *Lists) Drop(server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, p := range l.places {
		if at.Server != server {
			continue
		}
		l.keep(p, nil)
		if p.asking != nil {
			p.asking.cancel()
			p.asking.dropped, p.asking = true, nil
		}
	}
}

// keep has digests be what is known of p, and forgets other lists if that is too
// much. l.mu must be held.
func (l *Lists) keep(p *place, digests map[string]string) {
	l.held += len(digests) - len(p.digests)
	p.digests = digests
	for _, other := range l.places {
		if l.held <= maxHeld {
			return
		}
		if other != p {
			l.held -= len(other.digests)
			other.digests = nil
		}
	}
}

// place returns what is known of a list. l.mu must be held.
func (l *Lists) place(at own.Place) *place {
	if p := l.places[at]; p != nil {
		return p
	}
	if len(l.places) >= maxPlaces {
		for other, p := range l.places {
			if p.asking == nil {
				l.keep(p, nil)
				delete(l.places, other)
				break
			}
		}
	}
	p := &place{}
	l.places[at] = p
	return p
}

// ask has the server asked, unless it is being asked. l.mu must be held.
func (l *Lists) ask(ctx context.Context, at own.Place, p *place) *asking {
	if p.asking != nil {
		return p.asking
	}
	// It is not the caller's alone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listWithin)
	a := &asking{cancel: cancel, done: make(chan struct{})}
	p.asking, l.under[a] = a, struct{}{}
	asked := l.clock()
	l.running.Go(func() {
		defer cancel()
		a.digests, a.err = l.list(ctx, at)
		l.mu.Lock()
		delete(l.under, a)
		if !a.dropped {
			p.asking = nil
			if a.err == nil {
				l.keep(p, a.digests)
				p.asked = asked
			}
		}
		l.mu.Unlock()
		close(a.done)
	})
	return a
}

// list asks a server for its tools and returns their digests by name.
func (l *Lists) list(ctx context.Context, at own.Place) (map[string]string, error) {
	digests := make(map[string]string)
	var tooMany error
	err := l.lister.Tools(ctx, at, func(item []byte) {
		o, name := read(item)
		if o == nil || len(name) > maxName {
			return // no agent is shown it, or it is in no catalogue
		}
		if len(digests) >= maxTools {
			tooMany = fmt.Errorf("list tools of %s: it has more than %d", at.Server, maxTools)
			return
		}
		digest, definition, err := schema.DigestObject(o)
		if err == nil {
			l.observe(at.Server, name, digest, definition, l.pinned(at.Server, name))
		}
		if _, twice := digests[name]; twice {
			digest = ""
		}
		digests[name] = digest
	})
	return digests, errors.Join(err, tooMany)
}

// read reads an item of tools/list; nil if it can be read in two ways, has no
// name, or is longer than one that can be accepted.
func read(item []byte) (o *strictjson.Object, name string) {
	v, err := strictjson.Parse(item, strictjson.Limits{Depth: schema.MaxDepth, Size: schema.MaxSize})
	o, ok := v.(*strictjson.Object)
	if err != nil || !ok || message.Ambiguous(o, "name") != "" {
		return nil, ""
	}
	if name, ok = o.String("name"); !ok {
		return nil, ""
	}
	return o, name
}
