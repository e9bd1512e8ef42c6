package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The state directory can come from the environment, as it can for run.
func TestEndpointOfTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	endpoint := `{"url": "http://127.0.0.1:7070", "secret": "s"}`
	if err := os.WriteFile(filepath.Join(dir, "endpoint.json"), []byte(endpoint), 0o600); err != nil {
		t.Fatal(err)
	}
	// What enroll leaves there is for run.
	if err := os.WriteFile(filepath.Join(dir, configName), []byte("controlPlane: reeve:7444\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REEVE_SIDECAR_STATE_DIR", dir)
	var out bytes.Buffer
	c := command()
	c.SetArgs([]string{"endpoint"})
	c.SetOut(&out)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "URL:    http://127.0.0.1:7070/mcp/{server}\nHeader: Authorization: Bearer s\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
