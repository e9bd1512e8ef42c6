package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	"github.com/reeve-authz/reeve/e2e/revoked/script"
	"github.com/reeve-authz/reeve/e2e/revoked/waits"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// slowWait is what a wait takes at the most when nothing is wrong, on a machine
// that is not busy: one that takes longer is told.
const slowWait = 100 * time.Millisecond

// errUncertain reports that a revocation may have been done or not, and that it
// was not found out.
var errUncertain = errors.New("it is uncertain whether it was taken")

// takeCalmly takes what a schedule takes before anything goes wrong.
func (r *runner) takeCalmly(ctx context.Context, s *script.Schedule) ([]*oracle.Revocation, error) {
	if s.Calm == nil {
		return nil, nil
	}
	pause(ctx, r.judge.UntilCalm())
	taken, w, err := r.revoke(ctx, s.Calm)
	if err != nil {
		return nil, fmt.Errorf("take %s: %w", s.Calm.Name, err)
	}
	r.hold(w)
	return []*oracle.Revocation{taken}, nil
}

// hold holds a wait against the bound.
func (r *runner) hold(w waits.Wait) {
	if len(w.Asked) == 0 {
		return // reevectl waited
	}
	r.waited = append(r.waited, w)
	if took := w.End.Sub(w.Begin); took > slowWait && r.judge.Calm(w) {
		say(r.out, "  the wait for %q at r%v took %v, with no fault\n", w.Name, w.Asked, took)
	}
	if sentence := r.judge.Check(w); sentence != "" {
		r.overdue = append(r.overdue, sentence)
	}
}

// revoke takes authority, by one replica after the other until one answers, and
// waits likewise. If it is not known whether it was taken, it asks.
func (r *runner) revoke(ctx context.Context, v *script.Revocation) (*oracle.Revocation, waits.Wait, error) {
	taking, cancel := context.WithTimeout(ctx, persist)
	defer cancel()
	taken := &oracle.Revocation{Name: v.Name, Covers: v.Covers}
	if v.Sessions != nil {
		taken.Sessions = v.Sessions()
	}
	revision, err := r.take(taking, v)
	if errors.Is(err, errUncertain) {
		// The newest revision at the time of the question is none before it.
		revision, err = 0, r.settle(ctx, v, err)
	} else if err == nil && v.Command != nil {
		taken.Returned = time.Now()
		return taken, waits.Wait{}, nil
	}
	if err != nil {
		return nil, waits.Wait{}, err
	}
	w, err := r.await(ctx, v.Name, v.Waiter, revision)
	taken.Returned = w.End
	return taken, w, err
}

// take takes authority and returns the revision of the change.
func (r *runner) take(ctx context.Context, v *script.Revocation) (revision int64, err error) {
	if v.Command != nil {
		if _, err := r.Reevectl(ctx, v.Command...); err != nil {
			return 0, fmt.Errorf("%w: %w", errUncertain, err)
		}
		return 0, nil
	}
	err = r.through(ctx, v.Through, func(ctx context.Context, replica int) (err error) {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		revision, err = v.Take(ctx, r.Conn(replica))
		return err
	})
	return revision, err
}

// settle returns nil if what was perhaps taken is taken.
func (r *runner) settle(ctx context.Context, v *script.Revocation, uncertain error) error {
	ctx, cancel := context.WithTimeout(ctx, persist)
	defer cancel()
	taken := false
	err := r.through(ctx, v.Through, func(ctx context.Context, replica int) (err error) {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		taken, err = v.Taken(ctx, r.Conn(replica))
		return err
	})
	if err != nil {
		return fmt.Errorf("%w; %w", uncertain, err)
	}
	if !taken {
		return fmt.Errorf("it is not there: %w", uncertain)
	}
	r.settled.Add(1)
	return nil
}

// await waits for a revision, at one replica after the other until one answers.
func (r *runner) await(ctx context.Context, name string, first int, revision int64) (waits.Wait, error) {
	ctx, cancel := context.WithTimeout(ctx, persist)
	defer cancel()
	w := waits.Wait{Name: name, Begin: time.Now()}
	err := r.through(ctx, first, func(ctx context.Context, replica int) (err error) {
		w.Asked, w.Last = append(w.Asked, replica), time.Now()
		w.Elapsed, err = inForce(ctx, r.Conn(replica), revision)
		return err
	})
	w.End = time.Now()
	return w, err
}

// inForce returns when a revision is in force, and how long that took as the
// replica says.
func inForce(ctx context.Context, conn *grpc.ClientConn, revision int64) (time.Duration, error) {
	stream, err := adminv1.NewSidecarsClient(conn).AwaitRevision(ctx, &adminv1.AwaitRevisionRequest{Revision: revision})
	if err != nil {
		return 0, err
	}
	for {
		progress, err := stream.Recv()
		if err != nil {
			return 0, err
		}
		if progress.GetInForce() {
			return progress.GetElapsed().AsDuration(), nil
		}
	}
}

// through asks replicas in turn until one answers, the first one first. What is
// not there although nobody is known to have removed it may have been removed
// by a request that was not answered: then the error wraps errUncertain.
func (r *runner) through(ctx context.Context, first int, ask func(ctx context.Context, replica int) error) error {
	unanswered := false
	for i := first; ; i++ {
		err := ask(ctx, i%len(r.Replicas))
		switch code := status.Code(err); {
		case err == nil:
			return nil
		case transient(code) && ctx.Err() == nil:
			// What could not be sent was not done.
			unanswered = unanswered || !strings.Contains(err.Error(), "while dialing")
			pause(ctx, 20*time.Millisecond)
		case unanswered || transient(code) || code == codes.NotFound || code == codes.FailedPrecondition:
			// Two revocations may be of one thing.
			return fmt.Errorf("%w: %w", errUncertain, err)
		default:
			return err
		}
	}
}

// transientCodes are those after which another attempt may do better, and the one
// before may have been done.
var transientCodes = []codes.Code{
	codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.Canceled, codes.Internal, codes.Unknown, codes.ResourceExhausted,
}

func transient(code codes.Code) bool { return slices.Contains(transientCodes, code) }

// backUp writes the store of the one control plane to a file.
func (r *runner) backUp(ctx context.Context) (file string, err error) {
	file = filepath.Join(r.Replicas[0].DataDir, fmt.Sprintf("backup-%d.db", values.Add(1)))
	_, err = r.Maintain(ctx, "backup", file)
	return file, err
}

// restoreStore puts the store back to a backup that knows nothing of the
// revocations since. They hold all the same, until an owner gives back what they
// took: the fleet is halted.
func (r *runner) restoreStore(ctx context.Context, file string) error {
	p := r.Replicas[0]
	// It excuses no wait: what was granted before is waited out, no longer.
	trouble := &waits.Trouble{Name: "the store is restored", Restarts: true}
	r.judge.Began(trouble)
	p.Kill()
	if err := os.RemoveAll(filepath.Join(p.DataDir, "store")); err != nil {
		return err
	}
	if _, err := r.Maintain(ctx, "restore", file); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	if err := p.Start(starting); err != nil {
		return err
	}
	r.judge.Ended(trouble)
	w, err := r.await(ctx, "what was restored", 0, 0)
	if err != nil {
		return err
	}
	r.hold(w)
	// What is allowed again wrongly is allowed when sidecars have heard.
	pause(ctx, 500*time.Millisecond)
	states, err := adminv1.NewFleetClient(r.Conn(0)).ListFleetStates(ctx, &adminv1.ListFleetStatesRequest{})
	if err != nil {
		return err
	}
	if len(states.GetStates()) == 0 {
		return fmt.Errorf("the store is restored, and the fleet is not halted")
	}
	return os.Remove(file)
}
