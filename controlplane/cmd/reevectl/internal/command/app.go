// Package command is reevectl's command line.
package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
)

// answerWithin is how long an answer may take that nothing is waited for.
const answerWithin = 30 * time.Second

// Process is what a command line meets of its process.
type Process struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Now      func() time.Time
}

// app is one run of reevectl: the process and the flags that all commands have.
type app struct {
	Process
	config    string
	context   string
	namespace string
	format    output.Format
}

// file reads the file of contexts.
func (a *app) file() (*profile.File, error) {
	path := a.config
	if path == "" {
		path = profile.DefaultPath(a.Getenv)
	}
	return profile.Load(path)
}

// chosen returns the context that the flags or the environment choose.
func (a *app) chosen() (profile.Context, error) {
	f, err := a.file()
	if err != nil {
		return profile.Context{}, err
	}
	name := a.context
	if name == "" {
		name = a.Getenv("REEVECTL_CONTEXT")
	}
	c, err := f.Pick(name)
	if err != nil {
		return profile.Context{}, err
	}
	if a.namespace == "" {
		a.namespace = c.Namespace
	}
	if a.namespace == "" {
		a.namespace = "default"
	}
	return c, nil
}

// call returns the body of a command that talks to the control plane. What it
// does has ended when it returns.
func (a *app) call(run func(ctx context.Context, conn *grpc.ClientConn, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.chosen()
		if err != nil {
			return err
		}
		conn, note, err := c.Dial(a.Now())
		if err != nil {
			return err
		}
		defer conn.Close()
		if note != "" {
			a.say("note: %s", note)
		}
		if err := run(cmd.Context(), conn, args); err != nil {
			return &callError{err: err, context: c}
		}
		return nil
	}
}

// say tells the person, beside what is printed.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.Err, format+"\n", args...) //nolint:errcheck // there is nobody else to tell
}

// name returns the resource name that an argument means. The namespace is
// chosen by then.
func (a *app) name(k kind.Kind, id string) (string, error) {
	name, err := k.FullName(id, a.namespace)
	if err != nil {
		return "", usageError{err}
	}
	return name, nil
}

// print prints one message, as a table or in full.
func (a *app) print(m proto.Message, table func(io.Writer) error) error {
	if a.format == output.AsTable {
		return table(a.Out)
	}
	return output.One(a.Out, a.format, m)
}

// brief returns a context for a call that is answered at once.
func brief(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, answerWithin)
}
