package stdio

import (
	"bytes"
	"strconv"
	"sync"

	"github.com/reeve-authz/reeve/sidecar/internal/stdio/wire"
)

const (
	// maxPending is how many messages of a server wait until somebody listens,
	// and maxPendingBytes how long they may be together.
	maxPending      = 64
	maxPendingBytes = 1 << 20
)

// A call is a request of an agent that the process has not answered.
type call struct {
	// id is what the process knows it by, as the id and as the token of progress.
	id     int64
	method string
	out    *stream
	// origID and token are what the agent calls it; token is nil if it wants no
	// progress. task is the task that it asks about; nil if none.
	origID, token, task []byte
}

func (c *call) idText() []byte { return strconv.AppendInt(nil, c.id, 10) }

// A conversation is what is in progress with one process. Requests get ids of
// its own, so that those of several agents' connections do not meet. It is safe
// for concurrent use.
type conversation struct {
	mu        sync.Mutex
	last      int64
	calls     map[int64]*call
	listeners []*stream // the last one is told
	pending   []entry   // waits for a listener
	size      int       // of pending
	over      error     // why there will be nothing more; nil before
	waits     bool      // whether there ever may be a listener

	// cancelling counts the cancellations that are being written.
	cancelling sync.WaitGroup
}

// begin registers a request, and returns it and the line to write.
func (v *conversation) begin(m *wire.Message) (*call, []byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over != nil {
		return nil, nil, v.over
	}
	v.last++
	c := &call{id: v.last, method: m.Method, out: newStream(), origID: m.ID.Text, token: m.Token.Text, task: m.Task.Text}
	v.calls[c.id] = c
	return c, m.Line(wire.Edit{Old: m.ID, New: c.idText()}, wire.Edit{Old: m.Token, New: c.idText()}), nil
}

// line returns the line to write for a notification or a response; ok is false
// if what it is about is over, or cannot be told.
func (v *conversation) line(m *wire.Message) (line []byte, ok bool) {
	if m.Method != "notifications/cancelled" || !m.Cancelled.Is() {
		return m.Line(), true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var meant *call
	for _, c := range v.calls {
		if bytes.Equal(c.origID, m.Cancelled.Text) {
			if meant != nil {
				return nil, false // of two connections, and nobody knows which
			}
			meant = c
		}
	}
	if meant == nil {
		return nil, false
	}
	return m.Line(wire.Edit{Old: m.Cancelled, New: meant.idText()}), true
}

// drop ends a call that the process has not been sent.
func (v *conversation) drop(c *call) {
	if v.cancel(c) {
		v.cancelling.Done()
	}
}

// cancel ends a call that nobody waits for any more, and reports whether it was
// still in progress. Then it counts as being cancelled until cancelling is told
// that it is done.
func (v *conversation) cancel(c *call) bool {
	c.out.close(errGone)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.calls[c.id] != c {
		return false
	}
	delete(v.calls, c.id)
	v.cancelling.Add(1)
	return true
}

// idle reports whether nothing is in progress and nobody listens.
func (v *conversation) idle() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.calls) == 0 && len(v.listeners) == 0
}

// listen adds a listener, which gets what has waited for one.
func (v *conversation) listen(s *stream) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over != nil {
		s.close(v.over)
		return
	}
	v.listeners = append(v.listeners, s)
	for _, e := range v.pending {
		s.offer(e, true)
	}
	v.pending, v.size = nil, 0
}

// leave removes a listener.
func (v *conversation) leave(s *stream) {
	s.close(errGone)
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, other := range v.listeners {
		if other == s {
			v.listeners = append(v.listeners[:i:i], v.listeners[i+1:]...)
			return
		}
	}
}

// end ends everything that is in progress, for this reason, and whatever would
// follow.
func (v *conversation) end(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over != nil {
		return
	}
	v.over = why
	for id, c := range v.calls {
		delete(v.calls, id)
		c.out.close(why)
	}
	for _, s := range v.listeners {
		s.close(why)
	}
	v.pending = nil
}

// A delivery is where a message of the process goes, and as what.
type delivery struct {
	to    *stream // nil if it waits for a listener, or nobody wants it
	entry entry
	// problem says why nobody gets it; empty if somebody does.
	problem string
}

// route decides where a message of the process goes. A response takes its call
// out of what is in progress.
func (v *conversation) route(m *wire.Message) delivery {
	v.mu.Lock()
	defer v.mu.Unlock()
	if m.Kind == wire.Response {
		id, ok := m.ID.Int()
		c := v.calls[id]
		if !ok || c == nil {
			return delivery{problem: "response to nothing that is in progress"}
		}
		delete(v.calls, id)
		text := m.Line(wire.Edit{Old: m.ID, New: c.origID}, wire.Edit{Old: m.Subscription, New: c.origID})
		return delivery{to: c.out, entry: entry{text: text, final: true, failed: m.Failed}}
	}
	if c, value, name := v.related(m); value.Is() {
		if c == nil {
			return delivery{problem: "message about a request that is over"}
		}
		text := m.Line(wire.Edit{Old: value, New: name})
		return delivery{to: c.out, entry: entry{text: text, final: m.Method == "notifications/cancelled"}}
	}
	e := entry{text: m.Line()}
	if m.Task.Is() {
		for _, c := range v.calls {
			if bytes.Equal(c.task, m.Task.Text) {
				return delivery{to: c.out, entry: e}
			}
		}
	}
	if n := len(v.listeners); n > 0 {
		return delivery{to: v.listeners[n-1], entry: e}
	}
	if c := v.oldest(); c != nil {
		return delivery{to: c.out, entry: e}
	}
	if !v.waits || len(v.pending) >= maxPending || v.size+len(e.text) > maxPendingBytes {
		return delivery{problem: "message that nobody waits for"}
	}
	v.pending = append(v.pending, e)
	v.size += len(e.text)
	return delivery{}
}

// related returns the call that m names, the value by which it does, and what
// the agent calls it instead. v.mu must be held.
func (v *conversation) related(m *wire.Message) (c *call, value wire.Value, name []byte) {
	switch {
	case m.Method == "notifications/progress" && m.Progress.Is():
		if c = v.byID(m.Progress); c != nil && c.token == nil {
			c = nil
		}
		if c == nil {
			return nil, m.Progress, nil
		}
		return c, m.Progress, c.token
	case m.Subscription.Is():
		if c = v.byID(m.Subscription); c == nil {
			return nil, m.Subscription, nil
		}
		return c, m.Subscription, c.origID
	case m.Method == "notifications/cancelled" && m.Cancelled.Is():
		// A server ends a subscription so; otherwise it takes back a request of
		// its own, whose ids are its affair.
		if c = v.byID(m.Cancelled); c == nil || c.method != "subscriptions/listen" {
			return nil, wire.Value{}, nil
		}
		delete(v.calls, c.id)
		return c, m.Cancelled, c.origID
	}
	return nil, wire.Value{}, nil
}

func (v *conversation) byID(value wire.Value) *call {
	id, ok := value.Int()
	if !ok {
		return nil
	}
	return v.calls[id]
}

// oldest returns the call that is in progress for longest. v.mu must be held.
func (v *conversation) oldest() *call {
	var oldest *call
	for _, c := range v.calls {
		if oldest == nil || c.id < oldest.id {
			oldest = c
		}
	}
	return oldest
}
