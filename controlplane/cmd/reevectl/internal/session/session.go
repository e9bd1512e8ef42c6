// Package session is one run of reevectl: whom it talks to and as whom, how it
// prints, how it waits, and what it says when something fails.
package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
)

// answerWithin is how long an answer may take that nothing is waited for.
const answerWithin = 30 * time.Second

// Process is what a session meets of its process.
type Process struct {
	// In is standard input.
	In io.Reader
	// Out is for what was asked for, Err for what is said beside it.
	Out, Err io.Writer
	// Getenv reads the environment.
	Getenv func(string) string
	// Now is the wall clock.
	Now func() time.Time
}

// Session is one run of reevectl: the process, and what the flags that all
// commands have say.
type Session struct {
	Process
	// Config is the file of contexts; empty is the default one.
	Config string
	// Context is the name of the context; empty is the current one.
	Context string
	// Namespace is where short ids are. If nobody said, it is set when the context
	// is chosen.
	Namespace string
	// Format is how to print.
	Format output.Format

	// reached is the context that Call was made in, home its namespace.
	reached profile.Context
	home    string
	// hold keeps what is printed for the report that a wait ends with.
	hold bool
	held []json.RawMessage
	// columns is how wide standard error is taken to be, if it is not 0.
	columns int
	// live says that the cursor is behind a line of progress.
	live bool
}

// Conn is a connection to a control plane, or to one of several.
type Conn = grpc.ClientConnInterface

// File reads the file of contexts.
func (s *Session) File() (*profile.File, error) {
	path := s.Config
	if path == "" {
		path = profile.DefaultPath(s.Getenv)
	}
	return profile.Load(path)
}

// Chosen returns the context that the flags or the environment choose.
func (s *Session) Chosen() (profile.Context, error) {
	f, err := s.File()
	if err == nil && s.Config == "" && len(f.Contexts) == 0 {
		f, err = f.OrLocal(s.Getenv)
	}
	if err != nil {
		return profile.Context{}, err
	}
	name := s.Context
	if name == "" {
		name = s.Getenv("REEVECTL_CONTEXT")
	}
	c, err := f.Pick(name)
	if err != nil {
		return profile.Context{}, err
	}
	if s.home = c.Namespace; s.home == "" {
		s.home = "default"
	}
	if s.Namespace == "" {
		s.Namespace = s.home
	}
	return c, nil
}

// Call returns the body of a command that talks to a control plane. What it does
// has ended when it returns.
func (s *Session) Call(run func(ctx context.Context, conn Conn, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := s.Chosen()
		if err != nil {
			return err
		}
		conn, note, err := c.Dial(s.Now())
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // nothing is in flight any more
		s.reached = c
		if note != "" {
			s.Say("note: %s", note)
		}
		if err := run(cmd.Context(), conn, args); err != nil {
			return &callError{err: err, context: c, address: conn.Address()}
		}
		return nil
	}
}

// Say tells the person, beside what is printed.
func (s *Session) Say(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.Err, format+"\n", args...) //nolint:errcheck // there is nobody else to tell
}

// Name returns the resource name that an argument means. The namespace is
// chosen by then.
func (s *Session) Name(k kind.Kind, id string) (string, error) {
	name, err := k.FullName(id, s.Namespace)
	if err != nil {
		return "", UsageError{err}
	}
	return name, nil
}

// Typed returns a resource name as it is typed in the context: its id, if that
// means it without a namespace.
func (s *Session) Typed(name string) string {
	if kind.NamespaceOf(name) != s.home {
		return name
	}
	return kind.Short(name)
}

// Print prints one message, as a table or in full.
func (s *Session) Print(m proto.Message, table func(io.Writer) error) error {
	if !s.Format.Machine() {
		return table(s.Out)
	}
	if !s.hold {
		return output.One(s.Out, s.Format, m)
	}
	text, err := manifest.JSON(m)
	s.held = append(s.held, text)
	return err
}

// Brief returns a context for a call that is answered at once.
func Brief(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, answerWithin)
}

// PrintDescription prints a description, or keeps it for the report.
func (s *Session) PrintDescription(d *output.Description) error {
	if !s.hold {
		return d.Print(s.Out, s.Format, output.Width(s.Out))
	}
	text, err := d.JSON()
	s.held = append(s.held, text)
	return err
}
