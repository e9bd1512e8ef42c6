package claims

import (
	"sync"
	"time"
)

// openingKept is how long it is remembered that a session was opened: for longer
// than a sidecar repeats a request.
const openingKept = time.Minute

// openings are the sessions that this control plane has opened a short while ago,
// so that a request which is repeated after its session has ended does not bring
// it back: whoever ended it has ended it. One that is repeated at another control
// plane does open it again; it is then another session under the same name, as
// the agent might open at any time. Safe for concurrent use.
type openings struct {
	mu    sync.Mutex
	at    map[string]time.Time // by the session's name
	swept time.Time
}

// note remembers that a session was opened.
func (o *openings) note(session string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at == nil {
		o.at = make(map[string]time.Time)
	}
	o.at[session] = now
	if now.Sub(o.swept) < openingKept {
		return
	}
	o.swept = now
	for name, at := range o.at {
		if now.Sub(at) >= openingKept {
			delete(o.at, name)
		}
	}
}

// knows reports whether a session was opened a short while ago.
func (o *openings) knows(session string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.at[session]
	return ok && now.Sub(at) < openingKept
}
