package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
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
func (r *runner) play(ctx context.Context, s *schedule) (late []string, err error) {
	began := time.Now()
	if s.slow {
		if err := r.giveSlow(ctx); err != nil {
			return nil, err
		}
	}
	var backup string
	if s.restore {
		if backup, err = r.backUp(ctx); err != nil {
			return nil, err
		}
	}
	ordered := func() error { return nil }
	if s.registers {
		ordered = r.exercise(ctx, s.title)
	}
	taken, err := r.disturb(ctx, s)
	if wrong := ordered(); err != nil || wrong != nil {
		return nil, fmt.Errorf("%w in\n%v%s", errors.Join(err, wrong), s, r.tails())
	}
	if s.restore {
		if err := r.restoreStore(ctx, backup); err != nil {
			return nil, fmt.Errorf("%w in\n%v", err, s)
		}
	}
	pause(ctx, s.dwell)
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
func (r *runner) disturb(ctx context.Context, s *schedule) ([]*oracle.Revocation, error) {
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range s.faults {
		group.Go(func() error {
			pause(ctx, f.at)
			if err := f.begin(ctx); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if f.end == nil {
				return nil
			}
			pause(ctx, f.lasts)
			if err := f.end(context.WithoutCancel(ctx)); err != nil {
				return fmt.Errorf("end of %s: %w", f.name, err)
			}
			return nil
		})
	}
	var mu sync.Mutex // guards taken, and r's counts
	var taken []*oracle.Revocation
	for _, v := range s.revocations {
		group.Go(func() error {
			pause(ctx, v.at)
			took, returned, err := r.revoke(ctx, v)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, errUncertain) {
				r.uncertain++
				return nil
			}
			if err != nil {
				return fmt.Errorf("take %s: %w", v.name, err)
			}
			if v.command == nil {
				r.waits = append(r.waits, took)
			}
			if took > 3*r.bound {
				say(r.out, "  the wait for %q took %v\n", v.name, took)
			}
			taken = append(taken, &oracle.Revocation{Name: v.name, Covers: v.covers, Returned: returned})
			return nil
		})
	}
	err := group.Wait()
	return taken, err
}

// revoke takes authority, by one replica after the other until one answers, and
// returns how long the wait took after that, and when it returned.
func (r *runner) revoke(ctx context.Context, v *revocation) (wait time.Duration, returned time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, persist)
	defer cancel()
	if v.command != nil {
		if _, err := r.Reevectl(ctx, v.command...); err != nil {
			return 0, time.Time{}, fmt.Errorf("%w: %w", errUncertain, err)
		}
		return 0, time.Now(), nil
	}
	var revision int64
	err = r.through(ctx, v.through, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		revision, err = v.take(ctx, conn)
		return err
	})
	if err != nil {
		return 0, time.Time{}, err
	}
	committed := time.Now()
	err = r.through(ctx, v.waiter, func(ctx context.Context, conn *grpc.ClientConn) error {
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
func (r *runner) recover(ctx context.Context, s *schedule, taken []*oracle.Revocation) error {
	now := time.Now()
	for _, t := range taken {
		t.Restored = now
	}
	var err error
	unanswered := false
	given := slices.Clone(s.revocations)
	if s.restore {
		given = append(given, haltOf("fleet"))
	}
	for deadline := now.Add(recovery); time.Now().Before(deadline); {
		for i, v := range given {
			giving, cancel := context.WithTimeout(ctx, attempt)
			err := v.give(giving, r.Conn(v.through+i))
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
	err := create(ctx, r.Conn(0), s)
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

// check holds what was allowed since an instant against what was taken.
func (r *runner) check(ctx context.Context, since time.Time, taken []*oracle.Revocation) (late []string, err error) {
	r.revocations = append(r.revocations, taken...)
	allows, err := r.allows(ctx, since)
	if err != nil {
		return nil, err
	}
	arrivals, seen := r.Arrivals(r.seen)
	r.seen = seen
	for _, sentence := range oracle.Late(taken, allows, arrivals) {
		if !r.late[sentence] {
			r.late[sentence] = true
			late = append(late, sentence)
		}
	}
	return late, nil
}

func (r *runner) allows(ctx context.Context, since time.Time) (allows []oracle.Allow, err error) {
	deadline := time.Now().Add(recovery)
	for i := 0; time.Now().Before(deadline); i++ {
		if allows, err = r.Allows(ctx, i, since); err == nil {
			return allows, nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	return nil, err
}

// finish holds all that was allowed and all that arrived against all that was
// taken: records of a sidecar that was killed follow when it is back.
func (r *runner) finish(ctx context.Context) (allowed int, late, unrecorded []string, err error) {
	arrivals, _ := r.Arrivals(make([]int, len(r.Journals)))
	for deadline := time.Now().Add(recovery); ; pause(ctx, 200*time.Millisecond) {
		allows, err := r.allows(ctx, time.Time{})
		if err != nil {
			return 0, nil, nil, err
		}
		if unrecorded = oracle.Unrecorded(allows, arrivals); len(unrecorded) > 0 && time.Now().Before(deadline) {
			continue
		}
		for _, sentence := range oracle.Late(r.revocations, allows, arrivals) {
			if !r.late[sentence] {
				r.late[sentence] = true
				late = append(late, sentence)
			}
		}
		return len(allows), late, unrecorded, nil
	}
}

// tails are the last lines of every process.
func (r *runner) tails() string {
	var b strings.Builder
	for i, p := range r.Replicas {
		fmt.Fprintf(&b, "r%d:\n%s", i, p.Tail(15))
	}
	for i, p := range r.Sidecars {
		fmt.Fprintf(&b, "s%d:\n%s", i, p.Tail(8))
	}
	return b.String()
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
