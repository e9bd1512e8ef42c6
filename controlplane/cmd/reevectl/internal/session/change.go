package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// revisionHeader is where answers tell the revision of a change.
const revisionHeader = "reeve-revision"

// Change is what all commands share that change something: why, and whether they
// return only when the change is in force.
type Change struct {
	// Reason is why, for the record of changes.
	Reason string
	// Wait says to return only when the change is in force.
	Wait bool
	// Timeout is how long the command may take, all in all.
	Timeout time.Duration
	// Dry says that the control plane is only to check: nothing is made.
	Dry bool

	// revision is the newest that was told, unless one was not.
	revision     int64
	made, untold bool
}

// Flags adds the flags of a command that changes something, and can be only
// checked.
func (c *Change) Flags(cmd *cobra.Command) {
	c.ReasonFlags(cmd)
	cmd.Flags().Var((*dryRun)(&c.Dry), "dry-run", "server to have the control plane check everything and change\nnothing, or none")
	cmd.Flag("dry-run").NoOptDefVal = "server"
	_ = cmd.RegisterFlagCompletionFunc("dry-run", // there is such a flag
		cobra.FixedCompletions([]string{"server", "none"}, cobra.ShellCompDirectiveNoFileComp))
}

// ReasonFlags adds the flags of a command that changes something at once.
func (c *Change) ReasonFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.Reason, "reason", "", "why, for the record of changes")
	c.WaitFlags(cmd)
}

// dryRun is the value of a flag that says whether to check only.
type dryRun bool

// String implements pflag.Value.
func (d *dryRun) String() string {
	if *d {
		return "server"
	}
	return "none"
}

// Type implements pflag.Value.
func (d *dryRun) Type() string { return "how" }

// Set implements pflag.Value.
func (d *dryRun) Set(word string) error {
	if word != "server" && word != "none" {
		return errors.New("use server or none")
	}
	*d = word == "server"
	return nil
}

// Said is what a command says that it did, marked if it only was checked.
func (c *Change) Said(word string) string {
	if c.Dry {
		return word + " (dry run)"
	}
	return word
}

// WaitFlags adds the flags of a command that changes something without a reason.
func (c *Change) WaitFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.Wait, "wait", false, "return only when the change is in force on every sidecar")
	c.TimeoutFlag(cmd)
}

// TimeoutFlag adds the flag of a command that only waits.
func (c *Change) TimeoutFlag(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&c.Timeout, "timeout", 2*time.Minute, "how long all of it may take; longer is a failure")
}

// body is what a command does once it is connected.
type body = func(ctx context.Context, conn Conn, args []string) error

// Call is Session.Call for a command that has the timeout's flag, which bounds
// all that it does. When run has returned, it waits for what was made, if that is
// wanted; what was printed is then part of the report, if programs read it.
func (c *Change) Call(s *Session, run body) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if c.Timeout <= 0 {
			return UsageError{fmt.Errorf("--timeout %s leaves no time: give a length of time such as 30s", c.Timeout)}
		}
		return s.Call(func(ctx context.Context, conn Conn, args []string) error {
			return c.bounded(ctx, s, conn, args, run)
		})(cmd, args)
	}
}

// CallToWait is Call for a command that waits for a revision, or for the newest
// if that is 0, and changes nothing.
func (c *Change) CallToWait(s *Session, revision int64) func(*cobra.Command, []string) error {
	c.Wait, c.made, c.revision, c.untold = true, true, revision, revision == 0
	return c.Call(s, func(context.Context, Conn, []string) error { return nil })
}

func (c *Change) bounded(ctx context.Context, s *Session, conn Conn, args []string, run body) error {
	began := s.Now()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	s.hold = c.Wait && s.Format.Full()
	err := run(ctx, conn, args)
	if !c.Wait || !c.made {
		if e := s.release(); e != nil && err == nil {
			return e
		}
		return err
	}
	var last *adminv1.AwaitRevisionResponse
	if err == nil {
		last, err = s.Await(ctx, conn, c.awaited(), c.Timeout, began)
	}
	if s.hold {
		reason := ""
		if err != nil {
			reason = s.explained(conn, err)
		}
		if e := s.report(last, c.awaited(), s.Now().Sub(began), reason); e != nil && err == nil {
			return e
		}
	}
	return err
}

// release prints what was held back of a command that made nothing to wait for.
func (s *Session) release() error {
	for _, text := range s.held {
		if err := output.Document(s.Out, s.Format, text); err != nil {
			return err
		}
	}
	return nil
}

// awaited is the last of the revisions that were made, because what is in force
// is so at all before it, or 0, which is the newest there is, if one was not told.
func (c *Change) awaited() int64 {
	if c.untold {
		return 0
	}
	return c.revision
}

// Doubt says what is not known if a change is not answered, and which command
// tells.
func (c *Change) Doubt(whether, look string) string {
	if c.Wait {
		look += ", then reevectl wait"
	}
	return fmt.Sprintf("it is not known whether %s; run: %s", whether, look)
}

// Made makes a change: do makes the call with the options; doubt is said if it is
// not answered. It returns the change's revision, or 0 if that was not told. Of
// what is only checked nothing is made, and nothing is in doubt.
func (c *Change) Made(ctx context.Context, doubt string, do func(context.Context, ...grpc.CallOption) error) (int64, error) {
	ctx, cancel := Brief(ctx)
	defer cancel()
	if c.Dry {
		return 0, do(ctx)
	}
	var header metadata.MD
	if err := do(ctx, grpc.Header(&header)); err != nil {
		return 0, InDoubt(err, doubt)
	}
	var revision int64
	if told := header.Get(revisionHeader); len(told) == 1 {
		revision, _ = strconv.ParseInt(told[0], 10, 64) // what cannot be read was not told
	}
	c.revision = max(c.revision, revision)
	c.untold = c.untold || revision <= 0
	c.made = true
	return revision, nil
}

// PrintList prints messages in full.
func PrintList[M proto.Message](s *Session, ms []M) error {
	if !s.hold {
		return output.List(s.Out, s.Format, ms)
	}
	all, err := texts(ms)
	if err != nil {
		return err
	}
	list, err := json.Marshal(all)
	s.held = append(s.held, list)
	return err
}

// sinceBegan has a report say how long it took since the command began.
func (s *Session) sinceBegan(p *adminv1.AwaitRevisionResponse, began time.Time) {
	p.Elapsed = durationpb.New(s.Now().Sub(began))
}
