//go:build reeve_fault

package xds

import (
	"testing"
	"testing/synctest"

	"github.com/reeve-authz/reeve/sidecar/fault"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

// The control of TestCutThenAcknowledge, to be run with REEVE_FAULT_OFF=ack_gate:
// with the gate off, what is not enforced yet is acknowledged.
func TestAcknowledgeThenCut(t *testing.T) {
	if !fault.Off(fault.ACKGate) {
		t.Skip("the gate is not off")
	}
	synctest.Test(t, func(t *testing.T) {
		cut := make(chan struct{})
		p := newPlane(t, func(v *replica.View) {
			if v.Snapshot.Revision() == 2 {
				<-cut
			}
		})
		s := p.serve()
		s.send("n2.1.1 grants -read")
		s.answer("n2.1.1")
		close(cut)
	})
}
