//go:build reeve_fault

package replica

import (
	"testing"

	"github.com/reeve-authz/reeve/sidecar/fault"
)

// The control of TestLive, to be run with REEVE_FAULT_OFF=freshness: without the
// bound, what was never heard of is live.
func TestLiveWithoutBound(t *testing.T) {
	if !fault.Off(fault.Freshness) {
		t.Skip("the bound is not off")
	}
	if v := newMachine().replica().View(); !v.Live() {
		t.Error("not live")
	}
}
