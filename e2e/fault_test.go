package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestNoFaultsInTheProduct looks into the built binaries for the switches that
// turn mechanisms off.
func TestNoFaultsInTheProduct(t *testing.T) {
	bin := os.Getenv("REEVE_BIN")
	if bin == "" {
		t.Skip("needs built binaries: make e2e")
	}
	for _, program := range []string{"reeve-sidecar", "reeve-controlplane", "reevectl"} {
		binary, err := os.ReadFile(filepath.Join(bin, program))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"REEVE_FAULT_OFF", "REEVE_FAULT_STALL", "REEVE_FAULT_REFUSE", "REEVE_CLOCK_OFFSETS"} {
			if bytes.Contains(binary, []byte(name)) {
				t.Errorf("%s reads %s", program, name)
			}
		}
	}
}
