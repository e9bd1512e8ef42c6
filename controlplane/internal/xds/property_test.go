package xds

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
)

// TestConverges holds for every interleaving of changes, slow reads, answers,
// lost streams and resumptions:
//
//   - in the end the sidecar has exactly the newest set;
//   - whenever a revision counts as held, nothing that the sidecar may act on was
//     gone by then, and nothing that was forbidden then is not forbidden to it
//     (P2), so that no older response ever brings back what was removed.
func TestConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"change":    w.change,
			"send":      w.send,
			"receive":   w.receive,
			"answer":    w.answer,
			"reconnect": func(*rapid.T) { w.connect() },
			"":          w.check,
		})
		for w.pass() {
			w.check(t)
		}
		if got, want := w.sidecar.held, versionsOf(w.views[w.revision]); !maps.Equal(got, want) {
			t.Fatalf("the sidecar holds %v, want %v", got, want)
		}
		if revision, ok := w.sub.holds(); !ok || revision != w.revision {
			t.Fatalf("counts as holding %d (%t), want %d", revision, ok, w.revision)
		}
	})
}

// A world is a subscription, a model of a sidecar, and what is between them.
type world struct {
	t        *rapid.T
	revision int64
	views    map[int64]*snapshot.View
	body     []byte

	sub     *subscription
	sidecar *model
	down    []frame   // sent and not received
	up      []request // answered and not heard
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, views: make(map[int64]*snapshot.View), sidecar: newModel(), body: make([]byte, 400<<10)}
	w.set(nil)
	w.connect()
	return w
}

func (w *world) set(entries []*snapshot.Entry) {
	w.revision++
	w.views[w.revision] = snapshot.NewView(entries)
}

// typeNamed is the type of what has a name: two of the six are sessions.
func typeNamed(name string) snapshot.Type {
	if name >= "e" {
		return snapshot.Sessions
	}
	return snapshot.Grants
}

// change makes a newer set: of four grants and two sessions, some appear, change
// or go. One that went may come back as it was, as when an agent regains a label.
func (w *world) change(t *rapid.T) {
	set := slices.Clone(w.views[w.revision].Entries())
	for range rapid.IntRange(1, 3).Draw(t, "changes") {
		name := string('a' + rune(rapid.IntRange(0, 5).Draw(t, "name")))
		set = slices.DeleteFunc(set, func(e *snapshot.Entry) bool { return e.Name == name })
		switch rapid.IntRange(0, 3).Draw(t, "how") {
		case 0: // gone
		case 1: // as it was
			for r := w.revision; r > 0; r-- {
				if e := w.views[r].Find(typeNamed(name), name); e != nil {
					set = append(set, e)
					break
				}
			}
		default:
			set = append(set, &snapshot.Entry{
				Type: typeNamed(name), Name: name, Revision: w.revision + 1,
				Takes: typeNamed(name) == snapshot.Grants && rapid.Bool().Draw(t, "forbids"),
				Wire:  w.body[:rapid.SampledFrom([]int{100, 300 << 10}).Draw(t, "size")],
			})
		}
	}
	w.set(set)
}

// send sends one response, if there is one.
func (w *world) send(*rapid.T) { w.sendOne() }

func (w *world) sendOne() bool {
	f, ok := w.sub.next(w.revision, w.views[w.revision])
	if ok {
		w.down = append(w.down, f)
	}
	return ok
}

func (w *world) receive(*rapid.T) { w.receiveOne() }

func (w *world) receiveOne() bool {
	if len(w.down) == 0 {
		return false
	}
	answers, err := w.sidecar.receive(w.down[0])
	if err != nil {
		w.t.Fatal(err)
	}
	w.up = append(w.up, answers...)
	w.down = w.down[1:]
	return true
}

func (w *world) answer(*rapid.T) { w.answerOne() }

func (w *world) answerOne() bool {
	if len(w.up) == 0 {
		return false
	}
	if err := w.sub.request(w.up[0]); err != nil {
		w.t.Fatal(err)
	}
	w.up = w.up[1:]
	return true
}

// pass lets everything happen that can, once, and reports whether anything did.
func (w *world) pass() bool {
	sent, received, answered := w.sendOne(), w.receiveOne(), w.answerOne()
	return sent || received || answered
}

// connect loses what is under way and opens another stream.
func (w *world) connect() {
	w.sub, w.down, w.up = newSubscription(), nil, nil
	w.sidecar.chunks, w.sidecar.taken = nil, make(map[string]int64)
	for t := range snapshot.Type(snapshot.Types) {
		r := request{t: t, subscribe: []string{"*"}}
		r.held = make(map[string]string)
		for name, v := range w.sidecar.held {
			if typeNamed(name) == t {
				r.held[name] = fmt.Sprint(v.revision)
			}
		}
		if err := w.sub.request(r); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) check(t *rapid.T) {
	held, ok := w.sub.holds()
	if !ok {
		return
	}
	for name, has := range w.sidecar.held {
		if has.takes {
			continue
		}
		since := false
		for r := held; r <= w.revision && !since; r++ {
			e := w.views[r].Find(typeNamed(name), name)
			since = e != nil && e.Revision == has.revision
		}
		if !since {
			t.Fatalf("counts as holding %d, and may act on %s@%d, which was gone by then", held, name, has.revision)
		}
	}
	for _, e := range w.views[held].Entries() {
		if !e.Takes || w.sidecar.held[e.Name].takes {
			continue
		}
		// It may have been lifted since, and only then.
		lifted := false
		for r := held + 1; r <= w.revision && !lifted; r++ {
			now := w.views[r].Find(typeNamed(e.Name), e.Name)
			lifted = now == nil || !now.Takes
		}
		if !lifted {
			t.Fatalf("counts as holding %d, and %s does not forbid there", held, e.Name)
		}
	}
}

// A model is a sidecar as the protocol's text has it, and no more.
type model struct {
	held   map[string]version
	chunks []frame          // of the set being received
	taken  map[string]int64 // by urgent responses, at which revision
}

type version struct {
	revision int64
	takes    bool
}

func newModel() *model {
	return &model{held: make(map[string]version), taken: make(map[string]int64)}
}

func (m *model) receive(f frame) ([]request, error) {
	if f.nonce[0] == 'u' {
		for _, name := range f.removed {
			if m.held[name].takes {
				return nil, fmt.Errorf("urgent %s lifts %s", f.nonce, name)
			}
		}
		for _, e := range f.entries {
			if !e.Takes || m.held[e.Name].takes {
				return nil, fmt.Errorf("urgent %s gives by %s", f.nonce, e.Name)
			}
		}
		m.apply(f, func(name string) bool { m.taken[name] = f.revision; return true })
		return []request{{t: f.t, nonce: f.nonce}}, nil
	}
	var revision int64
	var chunk, chunks int
	if _, err := fmt.Sscanf(f.nonce, "n%d.%d.%d", &revision, &chunk, &chunks); err != nil {
		return nil, err
	}
	m.chunks = append(m.chunks, f)
	if chunk != len(m.chunks) || m.chunks[0].revision != revision {
		return nil, fmt.Errorf("%s is not the next chunk after %d", f.nonce, len(m.chunks)-1)
	}
	if chunk < chunks {
		return nil, nil
	}
	var answers []request
	for _, f := range m.chunks {
		m.apply(f, func(name string) bool { return m.taken[name] <= revision })
		answers = append(answers, request{t: f.t, nonce: f.nonce})
	}
	m.chunks = nil
	return answers, nil
}

func (m *model) apply(f frame, mayChange func(name string) bool) {
	for _, e := range f.entries {
		if mayChange(e.Name) {
			m.held[e.Name] = version{e.Revision, e.Takes}
		}
	}
	for _, name := range f.removed {
		if mayChange(name) {
			delete(m.held, name)
		}
	}
}

func versionsOf(v *snapshot.View) map[string]version {
	all := make(map[string]version)
	for _, e := range v.Entries() {
		all[e.Name] = version{e.Revision, e.Takes}
	}
	return all
}
