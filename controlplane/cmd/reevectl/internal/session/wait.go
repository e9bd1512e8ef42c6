package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

const (
	// tellEvery is how often progress is told that is only the passing of time,
	// where each time is another line.
	tellEvery = 2 * time.Second
	// silence is how long after its last word a control plane, which says how far
	// a revision has come a few times a second, no longer answers.
	silence = 2 * time.Second
	// againAfter is how long after it went away a control plane is asked again.
	againAfter = 200 * time.Millisecond
)

// errSilent is a control plane that is connected and says nothing any more.
var errSilent = errors.New("the control plane says nothing any more")

// mover is a connection that can go on to another address.
type mover interface{ Move() bool }

// Await returns nil when the revision, or the newest if it is 0, is in force, and
// not before, with the last that it heard. It tells its progress, and begins
// again, at another address if there is one, when the control plane goes away
// meanwhile. timeout is how long it may take since the command began.
func (s *Session) Await(ctx context.Context, conn Conn, revision int64, timeout time.Duration, began time.Time,
) (*adminv1.AwaitRevisionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer s.clear()
	var last *adminv1.AwaitRevisionResponse
	var told, heard time.Time
	var broke error // why nothing was heard the last time
	away := false
	for {
		err := s.follow(ctx, conn, revision, func(p *adminv1.AwaitRevisionResponse) {
			s.sinceBegan(p, began)
			heard, away, broke = s.Now(), false, nil
			if !s.hold && (!sameCounts(p, last) || heard.Sub(told) >= tellEvery || s.width() > 0) {
				if p.GetInForce() {
					s.Say("%s", progress(p))
				} else {
					s.show(progress(p))
				}
				told = heard
			}
			last, revision = p, p.GetRevision()
		})
		switch {
		case err == nil:
			return last, nil
		case errors.Is(ctx.Err(), context.Canceled):
			return last, &waitError{errors.New("interrupted"), revision}
		case ctx.Err() != nil, status.Code(err) == codes.DeadlineExceeded:
			if last == nil || away || heard.IsZero() || s.Now().Sub(heard) >= silence {
				return last, &waitError{s.unheard(conn, last, broke, timeout), revision}
			}
			return last, s.late(last, timeout)
		case hopeless(err):
			return last, &waitError{err, revision}
		case away:
		case last == nil:
			s.Say("%s; trying again", s.explained(conn, err))
		default:
			s.Say("%s no longer answers; trying %s", s.addressOf(conn), s.next())
		}
		// The change is made and its revision stays: only the news broke off.
		away, broke = true, err
		if m, ok := conn.(mover); ok {
			m.Move()
		}
		select {
		case <-ctx.Done():
		case <-time.After(againAfter):
		}
	}
}

// next says who is asked when the control plane went away.
func (s *Session) next() string {
	if len(s.reached.Addresses) > 1 {
		return "the next address"
	}
	return "again"
}

// sameCounts reports whether all that differs is how long it can still take.
func sameCounts(p, q *adminv1.AwaitRevisionResponse) bool {
	return q != nil && p.GetInForce() == q.GetInForce() && p.GetApplied() == q.GetApplied() &&
		p.GetPending() == q.GetPending() && p.GetRefused() == q.GetRefused() && p.GetCutOff() == q.GetCutOff() &&
		slices.EqualFunc(p.GetUnheardReplicas(), q.GetUnheardReplicas(), func(a, b *adminv1.Replica) bool {
			return a.GetIncarnation() == b.GetIncarnation() && a.GetState() == b.GetState()
		})
}

// follow hears the progress of a revision. It returns nil only if the control
// plane said that the revision is in force. If there is another address to turn
// to, it returns when the control plane says nothing any more.
func (s *Session) follow(ctx context.Context, conn Conn, revision int64, hear func(*adminv1.AwaitRevisionResponse)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := adminv1.NewSidecarsClient(conn).AwaitRevision(ctx, &adminv1.AwaitRevisionRequest{Revision: revision})
	if err != nil {
		return err
	}
	heard := func() {}
	if len(s.reached.Addresses) > 1 {
		quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
		defer quiet.Stop()
		heard = func() { quiet.Reset(silence) }
	}
	for {
		p, err := stream.Recv()
		switch {
		case errors.Is(context.Cause(ctx), errSilent):
			return status.Error(codes.Unavailable, errSilent.Error())
		case errors.Is(err, io.EOF):
			return status.Error(codes.Unavailable, "the control plane did not say whether the change is in force")
		case err != nil:
			return err
		}
		heard()
		hear(p)
		if p.GetInForce() {
			return nil
		}
	}
}

// waitError is a wait that ended before what was waited for was known to be in
// force. What was changed stands all the same.
type waitError struct {
	err      error
	revision int64
}

func (e *waitError) Unwrap() error { return e.err }

func (e *waitError) Error() string { return e.err.Error() + ": " + e.next() }

// next says what is known, and how to go on.
func (e *waitError) next() string {
	if e.revision == 0 {
		return "what was changed is stored, and it is not known whether it is in force: go on waiting with reevectl wait"
	}
	return fmt.Sprintf("revision %d is stored, and it is not known whether it is in force: go on waiting with reevectl wait %d",
		e.revision, e.revision)
}

// late says who was waited for in vain, and that the change comes all the same.
func (s *Session) late(last *adminv1.AwaitRevisionResponse, timeout time.Duration) error {
	if !s.hold {
		s.clear()
		if err := stragglers(s.Err, s.width(), last); err != nil {
			return err
		}
	}
	revision, after := last.GetRevision(), output.Duration(timeout)
	for _, sidecar := range last.GetStragglers() {
		for _, r := range sidecar.GetRefusals() {
			return &lateError{fmt.Sprintf("revision %d is stored but not in force after %s: %s refuses %s (%s): correct that, then reevectl wait %d",
				revision, after, sidecar.GetAgent(), kind.Short(r.GetName()), output.Visible(r.GetDetail()), revision)}
		}
	}
	who := "the control plane has not applied it"
	if w := waitedFor(last); w != "" {
		who = "it waits for " + w
	}
	safe := ""
	if d := last.GetSafeIn().AsDuration(); d > 0 {
		safe = ", and is in force in " + output.Duration(d) + " at the latest"
	}
	return &lateError{fmt.Sprintf("revision %d is stored but not in force after %s: %s%s: go on waiting with reevectl wait %d",
		revision, after, who, safe, revision)}
}

// lateError is a revision that is known not to be in force in time.
type lateError struct{ text string }

func (e *lateError) Error() string { return e.text }

// unheard says that the control plane was waited for in vain, and what there was to
// hear instead, if that is known.
func (s *Session) unheard(conn Conn, last *adminv1.AwaitRevisionResponse, broke error, timeout time.Duration) error {
	said := "did not answer within " + output.Duration(timeout)
	if last != nil {
		said = "no longer answers"
	}
	var nowhere *profile.UnreachableError
	if broke != nil && !errors.As(broke, &nowhere) {
		text := output.Visible(status.Convert(broke).Message())
		what, _ := (&callError{broke, s.reached, s.addressOf(conn)}).unavailable(text, "")
		if breakOf(text) == fromServer {
			said, what = "did not say within "+output.Duration(timeout)+" whether it is in force", text
		}
		said += " (" + what + ")"
	}
	return fmt.Errorf("%s %s", s.addressOf(conn), said)
}
