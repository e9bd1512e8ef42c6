package main

import (
	"bytes"
	"testing"
)

// The version is one line, whichever way it is asked for.
func TestVersion(t *testing.T) {
	for _, argument := range []string{"version", "--version", "-v"} {
		var out bytes.Buffer
		c := command()
		c.SetArgs([]string{argument})
		c.SetOut(&out)
		if err := c.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := "reeve-sidecar devel\n"; out.String() != want {
			t.Errorf("%s: got %q, want %q", argument, out.String(), want)
		}
	}
}

// A command that does not exist is an error, and not a page of help.
func TestNoSuchCommand(t *testing.T) {
	var out bytes.Buffer
	c := command()
	c.SetArgs([]string{"rum"})
	c.SetOut(&out)
	if err := c.ExecuteContext(t.Context()); err == nil {
		t.Errorf("no error, and %q", out.String())
	}
}
