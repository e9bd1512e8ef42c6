package session

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
)

// The exit codes.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// UsageError is about a command line that cannot be meant.
type UsageError struct{ Err error }

// Error implements error.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap lets errors.Is and errors.As look within.
func (e UsageError) Unwrap() error { return e.Err }

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

// ExitCode returns how the process ends.
func ExitCode(err error) int {
	var usage UsageError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &usage):
		return ExitUsage
	default:
		return ExitFailed
	}
}
