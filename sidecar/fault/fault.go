// Package fault lets tests switch the mechanisms off that keep a promise, and
// put clocks off, to show that the promise is then broken and that the tests
// see it.
//
// It does so only in binaries built with the tag reeve_fault, which are made
// for tests and are no product. In all others every function is a constant, and
// the compiler removes what depends on it. Control plane and sidecar ask at the
// one place where a mechanism lives:
//
//	if fault.Off(fault.Recheck) {
//		return nil // nothing is looked at again
//	}
package fault

// A Point is where tests can hold a sidecar up, as a busy machine would.
type Point uint8

// The points.
const (
	// Publishing is when a change has been received, before it is published.
	Publishing Point = iota
	// Forwarding is when a call has been decided and recorded, before it is looked
	// at again and forwarded.
	Forwarding
)

// A Mechanism is one thing that P2 rests on.
type Mechanism uint8

// The mechanisms.
const (
	// Freshness is the bound itself: with it off, a sidecar never finds itself
	// stale, however long it has heard nothing.
	Freshness Mechanism = iota
	// QuorumRead is the linearizable read before freshness is granted: with it
	// off, a replica answers from what it has published.
	QuorumRead
	// Recheck is the look at freshness and snapshot directly before a call is
	// forwarded: with it off, what was decided is forwarded.
	Recheck
	// ACKGate is what an acknowledgement means: with it off, a sidecar
	// acknowledges before it enforces, and is granted freshness whatever it
	// holds or refuses.
	ACKGate
)
