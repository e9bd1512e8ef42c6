//go:build reeve_fault

package fault

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOff(t *testing.T) {
	t.Setenv("REEVE_FAULT_OFF", "quorum_read,ack_gate")
	for m, want := range map[Mechanism]bool{Freshness: false, QuorumRead: true, Recheck: false, ACKGate: true} {
		if Off(m) != want {
			t.Errorf("%s: off is %v, want %v", names[m], Off(m), want)
		}
	}
}

func TestStall(t *testing.T) {
	t.Setenv("REEVE_FAULT_STALL", "publish=30ms")
	began := time.Now()
	Stall(Forwarding)
	Stall(Publishing)
	if took := time.Since(began); took < 30*time.Millisecond || took > 10*time.Second {
		t.Errorf("held up for %v", took)
	}
}

func TestRefuses(t *testing.T) {
	t.Setenv("REEVE_FAULT_REFUSE", "a,b")
	for name, want := range map[string]bool{"a": true, "b": true, "a,b": false, "": false} {
		if Refuses(name) != want {
			t.Errorf("%q: refused is %v, want %v", name, Refuses(name), want)
		}
	}
}

func TestOffsets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clocks")
	t.Setenv("REEVE_CLOCK_OFFSETS", path)
	if WallOffset() != 0 || BootOffset() != 0 {
		t.Errorf("without a file, clocks are off by %v and %v", WallOffset(), BootOffset())
	}
	if err := os.WriteFile(path, []byte("-3s 250ms\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); WallOffset() != -3*time.Second || BootOffset() != 250*time.Millisecond; {
		if time.Now().After(deadline) {
			t.Fatalf("clocks are off by %v and %v", WallOffset(), BootOffset())
		}
	}
}
