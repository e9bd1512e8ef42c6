package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// callError is a call that failed, with whom it was made to.
type callError struct {
	err     error
	context profile.Context
}

func (e *callError) Unwrap() error { return e.err }

// Error says what to do next. The control plane's own words do that already,
// except where they never came from it.
func (e *callError) Error() string {
	s, ok := status.FromError(e.err)
	if !ok {
		return e.err.Error()
	}
	text := output.Visible(s.Message())
	switch {
	case s.Code() == codes.Unavailable && strings.Contains(text, "connection refused"):
		return fmt.Sprintf("nothing answers at %s: is the control plane running there? context %q says so; see reevectl context list",
			e.context.Address, e.context.Name)
	case s.Code() == codes.Unavailable && strings.Contains(text, "tls: "):
		return fmt.Sprintf("%s does not accept %s (%s): its administrator may have been revoked; "+
			"ask an owner, or choose another --context", e.context.Address, e.context.Certificate, after(text, "tls: "))
	case s.Code() == codes.Unavailable && strings.Contains(text, "x509"):
		return fmt.Sprintf("what answers at %s is not the control plane of this context (%s): check its address and %s",
			e.context.Address, after(text, "x509"), e.context.CA)
	case s.Code() == codes.DeadlineExceeded:
		return fmt.Sprintf("%s did not answer in time: try again, or look at the control plane's health", e.context.Address)
	case s.Code() == codes.Canceled:
		return "interrupted"
	case s.Code() == codes.Unimplemented:
		return fmt.Sprintf("the control plane does not know this (%s): it is older than this reevectl", text)
	default:
		return text
	}
}

// after returns a text from a word on.
func after(text, word string) string {
	if _, rest, ok := strings.Cut(text, word); ok {
		return strings.Trim(strings.TrimSpace(rest), `":`)
	}
	return text
}

// exitCode returns how the process ends.
func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	default:
		return exitFailed
	}
}

// Run runs a command line and returns the process's exit code: 0 if it was done,
// 1 if it was refused or failed, 2 if it cannot be meant. It returns soon after
// ctx ends.
func Run(ctx context.Context, p Process, args []string) int {
	root := newRoot(&app{Process: p, format: output.AsTable})
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	cmd, err := root.ExecuteContextC(ctx)
	code := exitCode(err)
	if err != nil {
		fmt.Fprintf(p.Err, "error: %v\n", err) //nolint:errcheck // there is nobody else to tell
	}
	if code == exitUsage {
		fmt.Fprintf(p.Err, "see: %s --help\n", cmd.CommandPath()) //nolint:errcheck // as above
	}
	return code
}

// exactly is for commands that take n arguments, described in words.
func exactly(n int, words string) cobra.PositionalArgs { return between(n, n, words) }

// between is for commands that take low to high arguments, described in words;
// a high below low is no limit.
func between(low, high int, words string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < low:
			return usageError{fmt.Errorf("%s is missing", strings.Fields(words)[len(args)])}
		case high >= low && len(args) > high:
			return usageError{fmt.Errorf("%q is one argument too many", args[high])}
		default:
			return nil
		}
	}
}
