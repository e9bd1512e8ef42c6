// Package cli is what all commands of reevectl are made of: how they take
// arguments, lengths of time and instants, how a shell completes them, and how
// they print tables.
package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

// App is a session with a command line.
type App struct{ *session.Session }

// Write prints a table: whole if it is to be wide.
func (a *App) Write(t *output.Table) error {
	if a.Format == output.AsWide {
		return t.Fit(a.Out, 0)
	}
	return t.Write(a.Out)
}

// Group makes a command that only holds others: it helps, and refuses a word
// that is none of them.
func Group(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
		if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
			text += fmt.Sprintf(": did you mean %q?", meant[0])
		}
		return session.UsageError{Err: fmt.Errorf("%s", text)}
	}
	c.SuggestionsMinimumDistance = 2
	return c
}

// Usage is an error about a command line that cannot be meant.
func Usage(format string, args ...any) error {
	return session.UsageError{Err: fmt.Errorf(format, args...)}
}

// Exactly is for commands that take n arguments, described in words.
func Exactly(n int, words string) cobra.PositionalArgs { return Between(n, n, words) }

// Between is for commands that take low to high arguments, described in words;
// a high below low is no limit.
func Between(low, high int, words string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < low:
			return Usage("%s is missing", strings.Fields(words)[len(args)])
		case high >= low && len(args) > high:
			return Usage("%q is one argument too many", args[high])
		default:
			return nil
		}
	}
}

// Countable adds to what arguments a command takes that its limit is none or more.
func Countable(args cobra.PositionalArgs, limit *int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, words []string) error {
		if *limit < 0 {
			return Usage("--limit %d: give how many to show at the most, or 0 for all", *limit)
		}
		return args(cmd, words)
	}
}

// Duration reads a length of time, in days too.
func Duration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n > 0 && n < 36500 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	} else if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not a length of time such as 15m, 8h or 30d", s)
}

// At reads the instant that a flag gives; empty is none.
func At(flag, text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no instant was given, and none is meant
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, Usage("%s %q is not an instant such as 2027-01-31T00:00:00Z", flag, text)
	}
	return timestamppb.New(t), nil
}
