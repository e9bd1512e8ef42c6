// Package history checks that the admin API is linearizable: that what clients
// of several replicas were told of one resource fits one order of their
// requests, each between its beginning and its end.
package history

import (
	"errors"
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

// Add adds an operation.
func (h *History) Add(client int, r Request, begin time.Time, a Answer, end time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op := porcupine.Operation{ClientId: client, Input: r, Call: begin.UnixNano(), Output: a, Return: end.UnixNano()}
	if a.Unknown {
		op.Return = 1<<63 - 1
	}
	h.operations = append(h.operations, op)
}

// Len returns how many operations there are.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.operations)
}

// ErrUnsettled is wrapped by the error of a history of which it was not found out
// whether it fits: too many requests were not answered.
var ErrUnsettled = errors.New("not found out whether there is an order")

// Check returns an error if no order fits, or if that was not found out in time.
func (h *History) Check(patience time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	model := model.ToModel()
	switch result := porcupine.CheckOperationsTimeout(model, h.operations, patience); result {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%w in %v: %d operations", ErrUnsettled, patience, len(h.operations))
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
