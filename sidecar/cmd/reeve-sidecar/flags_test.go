package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/sidecar"
)

// filled returns the options of a run with these arguments.
func filled(t *testing.T, arguments ...string) (options, error) {
	t.Helper()
	var o options
	c := &cobra.Command{Use: "run"}
	addFile(c.Flags())
	o.addState(c.Flags())
	o.addEnrollment(c.Flags())
	o.addLog(c.Flags())
	if err := c.ParseFlags(arguments); err != nil {
		t.Fatal(err)
	}
	_, err := o.fill(c)
	return o, err
}

// Addresses come as a list from everywhere that settings come from.
func TestAddresses(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct {
		arguments []string
		variable  string
		want      []string
	}{
		"the default":                  {want: []string{"127.0.0.1:7444"}},
		"the command line":             {arguments: []string{"--control-plane", "a:1,b:2"}, variable: "c:3", want: []string{"a:1", "b:2"}},
		"the command line, twice":      {arguments: []string{"--control-plane", "a:1", "--control-plane", "b:2"}, want: []string{"a:1", "b:2"}},
		"the environment":              {variable: "a:1,b:2", want: []string{"a:1", "b:2"}},
		"a list in the file":           {arguments: []string{"--config", file("controlPlane: [a:1, b:2]\n")}, want: []string{"a:1", "b:2"}},
		"a string in the file":         {arguments: []string{"--config", file("controlPlane: a:1\n")}, want: []string{"a:1"}},
		"a string of two in the file":  {arguments: []string{"--config", file("controlPlane: a:1,b:2\n")}, want: []string{"a:1", "b:2"}},
		"the environment, over a file": {arguments: []string{"--config", file("controlPlane: [a:1, b:2]\n")}, variable: "c:3", want: []string{"c:3"}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.variable != "" {
				t.Setenv("REEVE_SIDECAR_CONTROL_PLANE", tc.variable)
			}
			o, err := filled(t, append([]string{"--state-dir", t.TempDir()}, tc.arguments...)...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, o.cfg.ControlPlane); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What enroll writes is what run reads.
func TestWrittenConfig(t *testing.T) {
	want := sidecar.Config{
		StateDir:     t.TempDir(),
		ControlPlane: []string{"a:1", "[::1]:2"}, EnrollAddress: []string{"a:3"}, CADigest: "sha256:" + strings.Repeat("0", 64),
	}
	if err := writeConfig(want); err != nil {
		t.Fatal(err)
	}
	got, err := filled(t, "--state-dir", want.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	want.Version = version
	if diff := cmp.Diff(want, got.cfg); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
