package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestSidecarFindsNoMethodsByName looks for a method that nothing calls. One
// look-up of a method by a name that is made at run time, as templates do it,
// makes the linker keep every exported method, and the sidecar 5 MB larger in
// memory.
func TestSidecarFindsNoMethodsByName(t *testing.T) {
	bin := os.Getenv("REEVE_BIN")
	if bin == "" {
		t.Skip("needs built binaries: make e2e")
	}
	binary, err := os.ReadFile(filepath.Join(bin, "reeve-sidecar"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(binary, []byte("reflect.(*Value).MethodByName")) {
		t.Error("reeve-sidecar has methods that nothing calls; go build -ldflags=-dumpdep shows at <ReflectMethod> what keeps them")
	}
}
