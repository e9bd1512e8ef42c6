package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	"github.com/reeve-authz/reeve/e2e/revoked/script"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

const (
	// recovery is how long a cluster may take until all is well again.
	recovery = 30 * time.Second
	// attempt is how long one request may take before another replica is asked,
	// and persist how long a revocation is tried.
	attempt = 1500 * time.Millisecond
	persist = 20 * time.Second
	// forgotten is how long a request may still be done that nobody waits for:
	// etcd gives one up after 5 s and twice the election timeout.
	forgotten = 7 * time.Second
)

// A runner plays schedules on one cluster, one after the other.
type runner struct {
	*cluster.Cluster
	out   io.Writer
	bound time.Duration

	began       time.Time
	seen        []int // arrivals that were checked, by tool server
	revocations []*oracle.Revocation
	late        map[string]bool  // sentences that were told
	spent       [3]time.Duration // on disturbing, on recovering and on checking
	waits       []time.Duration
	uncertain   int
}

func newRunner(c *cluster.Cluster, bound time.Duration, out io.Writer) *runner {
	return &runner{Cluster: c, bound: bound, out: out, began: time.Now(), seen: make([]int, len(c.Journals)), late: make(map[string]bool)}
}

// play plays a schedule and returns what it found late. An error means that the
// checker cannot go on: the cluster did what it should not, or did not recover.
func (r *runner) play(ctx context.Context, s *script.Schedule) (late []string, err error) {
	began := time.Now()
	if s.Slow {
		if err := r.giveSlow(ctx); err != nil {
			return nil, err
		}
	}
	var backup string
	if s.Restore {
		if backup, err = r.backUp(ctx); err != nil {
			return nil, err
		}
	}
	ordered := func() error { return nil }
	if s.Registers {
		ordered = r.exercise(ctx, s.Title)
	}
	taken, err := r.disturb(ctx, s)
	if wrong := ordered(); err != nil || wrong != nil {
		return nil, fmt.Errorf("%w in\n%v%s", errors.Join(err, wrong), s, r.tails())
	}
	if s.Restore {
		if err := r.restoreStore(ctx, backup); err != nil {
			return nil, fmt.Errorf("%w in\n%v", err, s)
		}
	}
	pause(ctx, s.Dwell)
	disturbed := time.Now()
	if r.Network != nil {
		if err := r.Network.Heal(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.recover(ctx, s, taken); err != nil {
		return nil, fmt.Errorf("%w in\n%v%s", err, s, r.tails())
	}
	recovered := time.Now()
	defer func() {
		r.spent[0] += disturbed.Sub(began)
		r.spent[1] += recovered.Sub(disturbed)
		r.spent[2] += time.Since(recovered)
	}()
	return r.check(ctx, began, taken)
}

// disturb does everything that a schedule says, each at its time, and returns
// when all of it is over.
func (r *runner) disturb(ctx context.Context, s *script.Schedule) ([]*oracle.Revocation, error) {
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range s.Faults {
		group.Go(func() error {
			pause(ctx, f.At)
			if err := f.Begin(ctx); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
			if f.End == nil {
				return nil
			}
			pause(ctx, f.Lasts)
			if err := f.End(context.WithoutCancel(ctx)); err != nil {
				return fmt.Errorf("end of %s: %w", f.Name, err)
			}
			return nil
		})
	}
	var mu sync.Mutex // guards taken, and r's counts
	var taken []*oracle.Revocation
	for _, v := range s.Revocations {
		group.Go(func() error {
			pause(ctx, v.At)
			took, returned, err := r.revoke(ctx, v)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, errUncertain) {
				r.uncertain++
				return nil
			}
			if err != nil {
				return fmt.Errorf("take %s: %w", v.Name, err)
			}
			if v.Command == nil {
				r.waits = append(r.waits, took)
			}
			if took > 3*r.bound {
				say(r.out, "  the wait for %q took %v\n", v.Name, took)
			}
			taken = append(taken, &oracle.Revocation{Name: v.Name, Covers: v.Covers, Returned: returned})
			return nil
		})
	}
	err := group.Wait()
	return taken, err
}

// revoke takes authority, by one replica after the other until one answers, and
// returns how long the wait took after that, and when it returned.
func (r *runner) revoke(ctx context.Context, v *script.Revocation) (wait time.Duration, returned time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, persist)
	defer cancel()
	if v.Command != nil {
		if _, err := r.Reevectl(ctx, v.Command...); err != nil {
			return 0, time.Time{}, fmt.Errorf("%w: %w", errUncertain, err)
		}
		return 0, time.Now(), nil
	}
	var revision int64
	err = r.through(ctx, v.Through, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		revision, err = v.Take(ctx, conn)
		return err
	})
	if err != nil {
		return 0, time.Time{}, err
	}
	committed := time.Now()
	err = r.through(ctx, v.Waiter, func(ctx context.Context, conn *grpc.ClientConn) error {
		return await(ctx, conn, revision)
	})
	returned = time.Now()
	return returned.Sub(committed), returned, err
}

// through asks replicas in turn until one answers, the first one first. What is
// not there although nobody is known to have removed it may have been removed
// by a request that was not answered: then the error wraps errUncertain.
func (r *runner) through(ctx context.Context, first int, ask func(context.Context, *grpc.ClientConn) error) error {
	unanswered := false
	for i := first; ; i++ {
		err := ask(ctx, r.Conn(i))
		switch code := status.Code(err); {
		case err == nil:
			return nil
		case transient(code) && ctx.Err() == nil:
			unanswered = true
			pause(ctx, 20*time.Millisecond)
		case unanswered || transient(code) || code == codes.NotFound || code == codes.FailedPrecondition:
			// Two revocations may be of one thing; the other one counts.
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

// recover gives back what was taken until all is well again.
func (r *runner) recover(ctx context.Context, s *script.Schedule, taken []*oracle.Revocation) error {
	now := time.Now()
	for _, t := range taken {
		t.Restored = now
	}
	var err error
	unanswered := false
	given := slices.Clone(s.Revocations)
	if s.Restore {
		given = append(given, script.Halt("fleet"))
	}
	for deadline := now.Add(recovery); time.Now().Before(deadline); {
		for i, v := range given {
			giving, cancel := context.WithTimeout(ctx, attempt)
			err := v.Give(giving, r.Conn(v.Through+i))
			cancel()
			unanswered = unanswered || transient(status.Code(err))
		}
		waiting, cancel := context.WithTimeout(ctx, 2*time.Second)
		err = r.AwaitAllowed(waiting)
		cancel()
		if err == nil {
			break
		}
	}
	if unanswered {
		pause(ctx, forgotten) // or it gives back what the next schedule takes
	}
	return err
}

func (r *runner) giveSlow(ctx context.Context) error {
	s := cluster.SlowGrant()
	err := script.Create(ctx, r.Conn(0), s)
	if err != nil {
		return err
	}
	// It is given when it is in use.
	for deadline := time.Now().Add(recovery); time.Now().Before(deadline); pause(ctx, 10*time.Millisecond) {
		for _, sidecar := range r.Sidecars {
			if sidecar.Agent == cluster.SlowAgent && sidecar.Caller.AllowedSince(cluster.Servers[0]+"/"+cluster.Slow, r.began) {
				return nil
			}
		}
	}
	return errors.New("the grant with the long bound is of no use")
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// await waits until a revision is in force.
func await(ctx context.Context, conn *grpc.ClientConn, revision int64) error {
	stream, err := adminv1.NewSidecarsClient(conn).AwaitRevision(ctx, &adminv1.AwaitRevisionRequest{Revision: revision})
	if err != nil {
		return err
	}
	for {
		progress, err := stream.Recv()
		if err != nil {
			return err
		}
		if progress.GetInForce() {
			return nil
		}
	}
}

// errUncertain reports that a revocation may have been done or not: then there
// is no revision to wait for.
var errUncertain = errors.New("it is uncertain whether it was taken")
