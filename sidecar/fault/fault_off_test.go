//go:build !reeve_fault

package fault

import "testing"

// A build for use has every mechanism on, whatever its environment says.
func TestNothingIsOff(t *testing.T) {
	t.Setenv("REEVE_FAULT_OFF", "freshness,quorum_read,recheck,ack_gate")
	for _, m := range []Mechanism{Freshness, QuorumRead, Recheck, ACKGate} {
		if Off(m) {
			t.Errorf("mechanism %d is off", m)
		}
	}
	t.Setenv("REEVE_FAULT_STALL", "publish=1h,forward=1h")
	Stall(Publishing)
	Stall(Forwarding)
	t.Setenv("REEVE_FAULT_REFUSE", "x")
	if Refuses("x") {
		t.Error("x is refused")
	}
	if WallOffset() != 0 || BootOffset() != 0 {
		t.Errorf("clocks are off by %v and %v", WallOffset(), BootOffset())
	}
}
