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

// tellEvery is how often progress is told that is only the passing of time.
const tellEvery = 2 * time.Second

// Change is what all commands share that change something.
type Change struct {
	// Reason is why, for the record of changes.
	Reason string
	// Wait says to return only when the change is in force.
	Wait bool
	// Timeout is how long to wait for that.
	Timeout time.Duration
}

// Flags adds the flags of a command that changes something.
func (c *Change) Flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.Reason, "reason", "", "why, for the record of changes")
	cmd.Flags().BoolVar(&c.Wait, "wait", false, "return only when the change is in force on every sidecar")
	c.TimeoutFlag(cmd)
}

// TimeoutFlag adds the flag of a command that only waits.
func (c *Change) TimeoutFlag(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&c.Timeout, "timeout", 2*time.Minute, "how long to wait; in vain is a failure")
}

// Make makes a change, and waits until it is in force if that is wanted. do
// makes the call with the options.
func (c *Change) Make(ctx context.Context, s *Session, conn *grpc.ClientConn, do func(context.Context, ...grpc.CallOption) error) error {
	revision, err := c.Made(ctx, do)
	if err != nil || !c.Wait {
		return err
	}
	return s.Await(ctx, conn, revision, c.Timeout)
}

// Made makes a change and returns its revision; 0 if that was not told, and then
// the newest is to be waited for.
func (c *Change) Made(ctx context.Context, do func(context.Context, ...grpc.CallOption) error) (int64, error) {
	ctx, cancel := Brief(ctx)
	defer cancel()
	var header metadata.MD
	if err := do(ctx, grpc.Header(&header)); err != nil {
		return 0, err
	}
	told := header.Get(revisionHeader)
	if len(told) == 0 {
		return 0, nil
	}
	revision, err := strconv.ParseInt(told[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the change is made, but the control plane told its revision as %q", told[0])
	}
	return revision, nil
}

// Await returns nil when the revision, or the newest if it is 0, is in force, and
// not before. It tells its progress, and begins again when the control plane goes away meanwhile.
func (s *Session) Await(ctx context.Context, conn *grpc.ClientConn, revision int64, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last *adminv1.AwaitRevisionResponse
	var told time.Time
	for {
		err := follow(ctx, conn, revision, func(p *adminv1.AwaitRevisionResponse) {
			if !sameCounts(p, last) || s.Now().Sub(told) >= tellEvery {
				s.Say("%s", progress(p))
				told = s.Now()
			}
			last, revision = p, p.GetRevision()
		})
		switch {
		case err == nil:
			return nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return late(last, revision, timeout)
		case status.Code(err) != codes.Unavailable:
			return err
		}
		// The change is made and its revision stays: only the news broke off.
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
	said := fmt.Sprintf("%d applied, %d pending, %d cut off", p.GetApplied(), p.GetPending(), p.GetCutOff())
	if p.GetRefused() > 0 {
		said += fmt.Sprintf(", %d refused", p.GetRefused())
	}
	if p.GetInForce() {
		return fmt.Sprintf("in force: %s (revision %d)", said, p.GetRevision())
	}
	if p.GetSafeIn() != nil {
		said += ", safe in " + output.Duration(p.GetSafeIn().AsDuration())
	}
	return "not in force yet: " + said
}

// late says who was waited for in vain, and that the change comes all the same.
func late(last *adminv1.AwaitRevisionResponse, revision int64, timeout time.Duration) error {
	for _, s := range last.GetStragglers() {
		for _, r := range s.GetRefusals() {
			return fmt.Errorf("revision %d is not in force after %s: %s refuses %s (%s): correct that, then reevectl wait %d",
				revision, output.Duration(timeout), s.GetAgent(), r.GetName(), output.Visible(r.GetDetail()), revision)
		}
	}
	who := "no progress was heard"
	if s := last.GetStragglers(); len(s) > 0 {
		who = fmt.Sprintf("%s is behind", s[0].GetAgent())
	}
	return fmt.Errorf("revision %d is stored but not in force after %s: %s: go on waiting with reevectl wait %d",
		revision, output.Duration(timeout), who, revision)
}
