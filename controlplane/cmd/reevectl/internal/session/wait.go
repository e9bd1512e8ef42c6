package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// revisionHeader is where answers tell the revision of a change.
const revisionHeader = "reeve-revision"

const (
	// tellEvery is how often progress is told that is only the passing of time.
	tellEvery = 2 * time.Second
	// silence is how long after its last word a control plane, which says how far
	// a revision has come a few times a second, no longer answers.
	silence = 2 * time.Second
)

// Change is what all commands share that change something.
type Change struct {
	// Reason is why, for the record of changes.
	Reason string
	// Wait says to return only when the change is in force.
	Wait bool
	// Timeout is how long the command may take, all in all.
	Timeout time.Duration

	// revision is the newest that was told, unless one was not.
	revision int64
	untold   bool
}

// Flags adds the flags of a command that changes something.
func (c *Change) Flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.Reason, "reason", "", "why, for the record of changes")
	cmd.Flags().BoolVar(&c.Wait, "wait", false, "return only when the change is in force on every sidecar")
	c.TimeoutFlag(cmd)
}

// TimeoutFlag adds the flag of a command that only waits.
func (c *Change) TimeoutFlag(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&c.Timeout, "timeout", 2*time.Minute, "how long all of it may take; longer is a failure")
}

// Call is Session.Call for a command that has the timeout's flag, which bounds
// all that it does.
func (c *Change) Call(s *Session, run body) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if c.Timeout <= 0 {
			return UsageError{fmt.Errorf("--timeout %s leaves no time: give a length of time such as 30s", c.Timeout)}
		}
		return s.Call(c.bounded(run))(cmd, args)
	}
}

// body is what a command does once it is connected.
type body = func(ctx context.Context, conn *grpc.ClientConn, args []string) error

func (c *Change) bounded(run body) body {
	return func(ctx context.Context, conn *grpc.ClientConn, args []string) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		return run(ctx, conn, args)
	}
}

// Doubt says what is not known if a change is not answered, and which command
// tells.
func (c *Change) Doubt(whether, look string) string {
	if c.Wait {
		look += ", then reevectl wait"
	}
	return fmt.Sprintf("it is not known whether %s; run: %s", whether, look)
}

// Make makes a change, and waits until it is in force if that is wanted. do
// makes the call with the options; doubt is said if it is not answered.
func (c *Change) Make(ctx context.Context, s *Session, conn *grpc.ClientConn, doubt string, do func(context.Context, ...grpc.CallOption) error) error {
	if _, err := c.Made(ctx, doubt, do); err != nil {
		return err
	}
	return c.InForce(ctx, s, conn)
}

// Made is Make without waiting. It returns the change's revision, or 0 if that
// was not told.
func (c *Change) Made(ctx context.Context, doubt string, do func(context.Context, ...grpc.CallOption) error) (int64, error) {
	ctx, cancel := Brief(ctx)
	defer cancel()
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
	return revision, nil
}

// InForce waits, if that is wanted, until all that was made is in force: for the
// last of its revisions, because what is in force is so at all before it, or for
// the newest there is if one was not told.
func (c *Change) InForce(ctx context.Context, s *Session, conn *grpc.ClientConn) error {
	switch {
	case !c.Wait:
		return nil
	case c.untold:
		return s.Await(ctx, conn, 0, c.Timeout)
	default:
		return s.Await(ctx, conn, c.revision, c.Timeout)
	}
}

// Await returns nil when the revision, or the newest if it is 0, is in force, and
// not before. It tells its progress, and begins again when the control plane goes away meanwhile.
func (s *Session) Await(ctx context.Context, conn *grpc.ClientConn, revision int64, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last *adminv1.AwaitRevisionResponse
	var told, heard time.Time
	away := false
	for {
		err := follow(ctx, conn, revision, func(p *adminv1.AwaitRevisionResponse) {
			heard, away = s.Now(), false
			if !sameCounts(p, last) || heard.Sub(told) >= tellEvery {
				s.Say("%s", progress(p))
				told = heard
			}
			last, revision = p, p.GetRevision()
		})
		switch {
		case err == nil:
			return nil
		case errors.Is(ctx.Err(), context.Canceled):
			return fmt.Errorf("interrupted: go on waiting with %s", again(revision))
		case ctx.Err() != nil, status.Code(err) == codes.DeadlineExceeded:
			if last == nil || away || s.Now().Sub(heard) >= silence {
				return s.unheard(last, revision, timeout)
			}
			return late(last, timeout)
		case hopeless(err):
			return err
		case away:
		case last == nil:
			s.Say("%s; trying again", (&callError{err, s.reached}).Error())
		default:
			s.Say("%s no longer answers; trying again", s.reached.Address)
		}
		// The change is made and its revision stays: only the news broke off.
		away = true
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// sameCounts reports whether all that differs is how long it can still take.
func sameCounts(p, q *adminv1.AwaitRevisionResponse) bool {
	return q != nil && p.GetInForce() == q.GetInForce() && p.GetApplied() == q.GetApplied() &&
		p.GetPending() == q.GetPending() && p.GetRefused() == q.GetRefused() && p.GetCutOff() == q.GetCutOff()
}

// follow hears the progress of a revision. It returns nil only if the control
// plane said that the revision is in force.
func follow(ctx context.Context, conn *grpc.ClientConn, revision int64, hear func(*adminv1.AwaitRevisionResponse)) error {
	stream, err := adminv1.NewSidecarsClient(conn).AwaitRevision(ctx, &adminv1.AwaitRevisionRequest{Revision: revision})
	if err != nil {
		return err
	}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.Unavailable, "the control plane did not say whether the change is in force")
		}
		if err != nil {
			return err
		}
		hear(p)
		if p.GetInForce() {
			return nil
		}
	}
}

// progress says how far a revision has come.
func progress(p *adminv1.AwaitRevisionResponse) string {
	safe := ""
	if p.GetSafeIn() != nil {
		safe = ", safe in " + output.Duration(p.GetSafeIn().AsDuration())
	}
	said := fmt.Sprintf("%d applied, %d pending, %d cut off", p.GetApplied(), p.GetPending(), p.GetCutOff())
	if p.GetRefused() > 0 {
		said += fmt.Sprintf(", %d refused", p.GetRefused())
	}
	switch {
	case p.GetInForce():
		return fmt.Sprintf("in force: %s (revision %d)", said, p.GetRevision())
	case p.GetPending()+p.GetCutOff()+p.GetRefused() == 0 && p.GetSafeIn().AsDuration() > 0:
		// Nobody who is known is waited for.
		said = "waiting for sidecars of before the control plane's restart"
		if p.GetApplied() > 0 {
			said = fmt.Sprintf("%d applied, %s", p.GetApplied(), said)
		}
	}
	return "not in force yet: " + said + safe
}

// late says who was waited for in vain, and that the change comes all the same.
func late(last *adminv1.AwaitRevisionResponse, timeout time.Duration) error {
	revision, after := last.GetRevision(), output.Duration(timeout)
	for _, s := range last.GetStragglers() {
		for _, r := range s.GetRefusals() {
			return fmt.Errorf("revision %d is not in force after %s: %s refuses %s (%s): correct that, then reevectl wait %d",
				revision, after, s.GetAgent(), r.GetName(), output.Visible(r.GetDetail()), revision)
		}
	}
	who := "the control plane has not applied it"
	if s := last.GetStragglers(); len(s) > 0 {
		who = fmt.Sprintf("%s is behind", s[0].GetAgent())
	} else if last.GetSafeIn().AsDuration() > 0 {
		who = "sidecars of before the control plane's restart may act on less"
	}
	return fmt.Errorf("revision %d is stored but not in force after %s: %s: go on waiting with %s", revision, after, who, again(revision))
}

// unheard says that the control plane was waited for in vain.
func (s *Session) unheard(last *adminv1.AwaitRevisionResponse, revision int64, timeout time.Duration) error {
	said := "did not answer within " + output.Duration(timeout)
	if last != nil {
		said = "no longer answers"
	}
	unknown := "what is in force"
	if revision > 0 {
		unknown = fmt.Sprintf("whether revision %d is in force", revision)
	}
	return fmt.Errorf("%s %s: it is not known %s: go on waiting with %s", s.reached.Address, said, unknown, again(revision))
}

// again is the command that waits for a revision.
func again(revision int64) string {
	if revision == 0 {
		return "reevectl wait"
	}
	return fmt.Sprintf("reevectl wait %d", revision)
}
