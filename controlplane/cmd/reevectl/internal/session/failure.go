package session

import (
	"errors"
	"fmt"
	"slices"
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
	// ExitNotInForce is of a command that waited: what was changed stands, and is
	// not known to be in force.
	ExitNotInForce = 3
)

// UsageError is about a command line that cannot be meant.
type UsageError struct{ Err error }

// Error implements error.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap lets errors.Is and errors.As look within.
func (e UsageError) Unwrap() error { return e.Err }

// ExitError is how a command ends that says by its exit code what it found. Err
// is nil if there is nothing more to say.
type ExitError struct {
	Code int
	Err  error
}

// Error implements error.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap lets errors.Is and errors.As look within.
func (e *ExitError) Unwrap() error { return e.Err }

// doubtError is a change that was not answered, with what is not known and how
// to find out.
type doubtError struct {
	err   error
	doubt string
}

func (e *doubtError) Error() string { return e.err.Error() + ": " + e.doubt }

func (e *doubtError) Unwrap() error { return e.err }

// InDoubt adds to the error of a change what is not known if it was not answered,
// and how to find out. Of other errors nothing is in doubt.
func InDoubt(err error, doubt string) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		if profile.Unwritten(err) {
			return err
		}
		return &doubtError{err, doubt}
	default:
		return err
	}
}

// callError is a call that failed, with whom it was made to.
type callError struct {
	err     error
	context profile.Context
	address string
}

func (e *callError) Unwrap() error { return e.err }

// Error says what to do next. The control plane's own words do that already,
// except where they never came from it.
func (e *callError) Error() string {
	var w *waitError
	if errors.As(e.err, &w) {
		return e.of(w.err).Error() + ": " + w.next()
	}
	var u *profile.UnreachableError
	if errors.As(e.err, &u) {
		return e.nowhere(u)
	}
	err, doubt := e.err, ""
	var d *doubtError
	if errors.As(e.err, &d) {
		err, doubt = d.err, d.doubt
	}
	var exit *ExitError
	if errors.As(err, &exit) && exit.Err != nil {
		err = exit.Err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	text := output.Visible(s.Message())
	switch s.Code() {
	case codes.Unavailable:
		what, next := e.unavailable(text, doubt)
		return join(what, next)
	case codes.DeadlineExceeded:
		return join(e.address+" did not answer", otherwise(doubt, healthNext))
	case codes.Canceled:
		return join("interrupted", doubt)
	case codes.Unimplemented:
		if strings.HasPrefix(text, "unknown service") {
			return fmt.Sprintf("what answers at %s does not administer (%s): is this the admin address? "+
				"context %q says so; if it is, the control plane is older than this reevectl", e.address, text, e.context.Name)
		}
		return fmt.Sprintf("the control plane does not know this (%s): it is older than this reevectl", text)
	default:
		return text
	}
}

// of is another error of the same call.
func (e *callError) of(err error) *callError { return &callError{err, e.context, e.address} }

// nowhere says what is wrong with each address.
func (e *callError) nowhere(u *profile.UnreachableError) string {
	text := fmt.Sprintf("no control plane of context %q can be asked, and nothing was changed:", e.context.Name)
	for _, a := range u.Attempts {
		what, _ := (&callError{a.Err, e.context, a.Address}).unavailable(output.Visible(status.Convert(a.Err).Message()), "")
		text += "\n  " + what
	}
	return text + "\nlook whether they run, and at the addresses: reevectl context list"
}

// healthNext is what to do about a control plane that does not answer.
const healthNext = "try again, or look at the control plane's health"

// unavailable says why nothing could be asked, or no answer came, and what to do
// about that.
func (e *callError) unavailable(text, doubt string) (what, next string) {
	says := fmt.Sprintf("context %q says so; see reevectl context list", e.context.Name)
	switch broken := breakOf(text); {
	case broken == fromServer && strings.HasPrefix(text, e.address):
		return text, doubt
	case broken == fromServer:
		if len(e.context.Addresses) > 1 {
			text = e.address + " says: " + text
		}
		return text, doubt
	case strings.Contains(text, "connection refused"):
		return "nothing answers at " + e.address, "is the control plane running there? " + says
	case broken == whileDialing:
		return fmt.Sprintf("%s cannot be reached (%s)", e.address, after(text, "Error while dialing: ")), "check the address; " + says
	case broken == refused:
		why := "it closed the connection"
		if strings.Contains(text, "tls: ") {
			why = after(text, "tls: ")
		}
		return fmt.Sprintf("%s does not accept %s (%s)", e.address, e.context.Certificate, why),
			"its administrator may have been revoked, or this is not the admin address; ask an owner, or choose another --context"
	case broken == noTLS:
		return fmt.Sprintf("what answers at %s does not speak TLS", e.address), "is this the admin address? " + says
	case broken == notTrusted:
		return fmt.Sprintf("what answers at %s is not the control plane of this context (%s)",
			e.address, after(after(text, "handshake failed: "), "x509: ")), "check its address and " + e.context.CA
	case broken == notThere:
		return fmt.Sprintf("%s did not answer within %s", e.address, output.Duration(profile.ConnectWithin)),
			"does the control plane run, and can it be reached from here? " + says
	default:
		return e.address + " did not answer", otherwise(doubt, healthNext)
	}
}

// explained is what an error says to the person, from whom a connection is to.
func (s *Session) explained(conn Conn, err error) string {
	return (&callError{err, s.reached, s.addressOf(conn)}).Error()
}

// addressOf is where a connection's newest call went.
func (s *Session) addressOf(conn Conn) string {
	if c, ok := conn.(interface{ Address() string }); ok {
		return c.Address()
	}
	return s.reached.Addresses.String()
}

func otherwise(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// A breakage is where it broke that a call came to nothing.
type breakage int

const (
	fromServer   breakage = iota // the control plane said so itself
	whileDialing                 // nothing was connected
	noTLS                        // who answers does not speak TLS
	notTrusted                   // who answers is not to be trusted
	refused                      // who answers does not trust us
	notThere                     // nobody answered in time
	meanwhile                    // no answer came
)

// breakOf tells from gRPC's words where it broke. Under TLS 1.3 a client has done
// its handshake before its certificate is looked at: a refusal is then an alert,
// or the end of the connection if that is quicker, before HTTP/2 has begun.
func breakOf(text string) breakage {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	ended := has("broken pipe", "connection reset", "EOF", "aborted")
	switch {
	case !has("connection error: ", "closing transport", "transport is closing", "connection is draining"):
		return fromServer
	case has("deadline exceeded", "i/o timeout") && has("handshake failed", "dialing", "preface"):
		return notThere
	case has("deadline exceeded", "i/o timeout"):
		return meanwhile
	case has("Error while dialing", "error while dialing"):
		return whileDialing
	case has("remote error: tls: "):
		return refused
	case has("handshake failed") && (has("first record does not look like a TLS handshake") || ended):
		return noTLS
	case has("handshake failed"):
		return notTrusted
	case has("preface", "initial settings", "window update") && ended:
		return refused
	default:
		return meanwhile
	}
}

// hopeless reports whether to ask again would be in vain: not for a control plane
// that is away for a while, but for one that is another, or does not know us.
func hopeless(err error) bool {
	var u *profile.UnreachableError
	if errors.As(err, &u) {
		return !slices.ContainsFunc(u.Attempts, func(a profile.Attempt) bool { return !hopeless(a.Err) })
	}
	if status.Code(err) != codes.Unavailable {
		return true
	}
	broken := breakOf(status.Convert(err).Message())
	return broken == noTLS || broken == notTrusted || broken == refused
}

func join(text, doubt string) string {
	if doubt == "" {
		return text
	}
	return text + ": " + doubt
}

// after returns a text from a word on.
func after(text, word string) string {
	if _, rest, ok := strings.Cut(text, word); ok {
		return strings.Trim(rest, `": `)
	}
	return text
}

// ExitCode returns how the process ends.
func ExitCode(err error) int {
	var (
		usage UsageError
		wait  *waitError
		late  *lateError
		exit  *ExitError
	)
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &wait), errors.As(err, &late):
		return ExitNotInForce
	default:
		return ExitFailed
	}
}
