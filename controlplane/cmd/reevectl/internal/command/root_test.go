package command

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

// walk does something with every command.
func walk(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, below := range c.Commands() {
		walk(below, do)
	}
}

// TestHelp: every command helps, with a description and an example, describes
// each flag, and all of it on 80 columns.
func TestHelp(t *testing.T) {
	t.Parallel()
	walk(newRoot(&cli.App{Session: &session.Session{Format: output.AsTable}}), func(c *cobra.Command) {
		var text bytes.Buffer
		c.SetOut(&text)
		if err := c.Help(); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(text.String()) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
				t.Errorf("%s: too wide: %s", c.CommandPath(), line)
			}
		}
		switch {
		case c.Short == "" || c.Example == "":
			t.Errorf("%s: no description or no example", c.CommandPath())
		case len(c.Short) > 80-16 || strings.HasSuffix(c.Short, "."):
			t.Errorf("%s: not a short line: %s", c.CommandPath(), c.Short)
		case c.HasLocalFlags() && c.Long == "" && c.Runnable() && !c.HasSubCommands() && c.LocalFlags().Lookup("reason") != nil:
			t.Errorf("%s changes something, and does not say at length what", c.CommandPath())
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s: not described", c.CommandPath(), f.Name)
			}
		})
		for _, line := range strings.Split(c.Example, "\n") {
			if words := strings.Fields(line); len(words) > 1 && words[0] == "reevectl" && !strings.HasPrefix(words[1], "-") {
				if found, _, err := c.Root().Find(words[1:]); err != nil || found == c.Root() {
					t.Errorf("%s: there is no command of its example: %s", c.CommandPath(), line)
				}
			}
		}
	})
}

// TestDryRun: what changes something can be checked first, but for what the
// control plane cannot check.
func TestDryRun(t *testing.T) {
	t.Parallel()
	cannot := []string{
		"reevectl token create", "reevectl admin create", "reevectl admin update", "reevectl admin revoke", "reevectl admin renew",
	}
	walk(newRoot(&cli.App{Session: &session.Session{Format: output.AsTable}}), func(c *cobra.Command) {
		changes, can := c.Flag("wait") != nil, c.Flag("dry-run") != nil
		if want := changes && !slices.Contains(cannot, c.CommandPath()); can != want {
			t.Errorf("%s: changes something: %v, can be checked first: %v", c.CommandPath(), changes, can)
		}
	})
}

// TestExitCodes: 2 for what cannot be meant, 1 for what failed.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"version"}, 0},
		{[]string{"--help"}, 0},
		{[]string{"nonsense"}, 2},
		{[]string{"agent", "nonsense"}, 2},
		{[]string{"get"}, 2},
		{[]string{"get", "grants", "--nonsense"}, 2},
		{[]string{"get", "grants", "-o", "nonsense"}, 2},
		{[]string{"grant", "x", "--ttl", "nonsense"}, 1}, // there is no context to begin with
		{[]string{"get", "grants"}, 1},
		{[]string{"apply", "-f", "/nonsense"}, 1},
	} {
		var said bytes.Buffer
		p := session.Process{Out: &said, Err: &said, Getenv: func(string) string { return "/nonsense" }, Now: time.Now}
		if got := Run(t.Context(), p, c.args); got != c.want {
			t.Errorf("reevectl %v: exit code %d; want %d: %s", c.args, got, c.want, &said)
		}
	}
}
