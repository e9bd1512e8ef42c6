// Package history checks that the admin API is linearizable: that what clients
// of several replicas were told of one resource fits one order of their
// requests, each between its beginning and its end.
package history

import (
	"fmt"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A Kind is what a client asked for.
type Kind int

// The kinds. Each write stores a value that no other write stores, so that the
// etag that a client sends stands for the value it was told with.
const (
	Get    Kind = iota
	Create      // of what is not there
	Update      // of what has the value Expect
	Delete      // of what has the value Expect
)

// A Request is what a client asked for.
type Request struct {
	Kind   Kind
	Expect string // the value that must be there
	Value  string // the value to be stored
}

// An Answer is what a client was told.
type Answer struct {
	// Unknown is whether there was none: the request may have been done, and may
	// be done yet.
	Unknown bool
	// Refused is whether the resource was not as the request expects it, and
	// Missing whether it was not there.
	Refused, Missing bool
	// Value is what a Get read.
	Value string
}

// A History is what clients asked and were told of one resource, which is not
// there at first. It may be used by many goroutines.
type History struct {
	mu         sync.Mutex // guards operations
	operations []porcupine.Operation
}

// Add adds an operation. What was read and not told does not count.
func (h *History) Add(client int, r Request, begin time.Time, a Answer, end time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.Unknown && r.Kind == Get {
		return
	}
	op := porcupine.Operation{ClientId: client, Input: r, Call: begin.UnixNano(), Output: a, Return: end.UnixNano()}
	if a.Unknown {
		op.Return = 1<<63 - 1
	}
	h.operations = append(h.operations, op)
}

// Unanswered returns how many writes were not answered.
func (h *History) Unanswered() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.operations {
		if op.Output.(Answer).Unknown {
			n++
		}
	}
	return n
}

// Check returns an error if no order fits. If that is not found out in time, it
// tries once more with what is left when it is settled which of the unanswered
// requests were done, and then in parts.
func (h *History) Check(patience time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	result := porcupine.CheckOperationsTimeout(model.ToModel(), h.operations, patience)
	if result == porcupine.Unknown {
		result = checkParts(parts(settled(h.operations)), patience)
	}
	switch result {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%d operations: not found out in %v whether there is an order", len(h.operations), 2*patience)
	default:
		return fmt.Errorf("%d operations: no order of them fits what clients were told: %v", len(h.operations), h.operations)
	}
}

// model is a resource whose state is its value, "" if it is not there.
var model = porcupine.NondeterministicModel{
	Init: func() []any { return []any{""} },
	Step: func(state, input, output any) []any {
		held, r, a := state.(string), input.(Request), output.(Answer)
		done, possible := r.done(held)
		switch {
		case a.Unknown && possible && done != held:
			return []any{held, done}
		case a.Unknown:
			return []any{held}
		case a.Missing:
			return when(held == "" && r.Kind != Create, held)
		case a.Refused:
			return when(held != "" && !possible, held)
		case r.Kind == Get:
			return when(held == a.Value && held != "", held)
		default:
			return when(possible, done)
		}
	},
}

// done returns what the request makes of a value, and whether it can be done.
func (r Request) done(held string) (after string, possible bool) {
	switch r.Kind {
	case Create:
		return r.Value, held == ""
	case Update:
		return r.Value, held != "" && held == r.Expect
	case Delete:
		return "", held != "" && held == r.Expect
	default:
		return held, held != ""
	}
}

func when(ok bool, state string) []any {
	if !ok {
		return nil
	}
	return []any{state}
}
