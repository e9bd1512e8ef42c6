package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	"github.com/reeve-authz/reeve/e2e/revoked/script"
	"github.com/reeve-authz/reeve/e2e/revoked/waits"
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
	out io.Writer

	began       time.Time
	seen        []int // arrivals that were checked, by tool server
	revocations []*oracle.Revocation
	late        map[string]bool  // sentences that were told
	spent       [3]time.Duration // on disturbing, on recovering and on checking
	judge       *waits.Judge
	waited      []waits.Wait
	// overdue are sentences of waits that took too long.
	overdue []string
	// uncertain are revocations of which it was never found out whether they were
	// made, and settled those of which it was.
	uncertain int
	settled   atomic.Int64
	// played are the schedules with sessions and limits, and restored when the
	// store was put back in those that do that.
	played   []*script.Schedule
	restored map[*script.Schedule]time.Time
}

func newRunner(c *cluster.Cluster, bound time.Duration, out io.Writer) *runner {
	return &runner{
		Cluster: c, out: out, began: time.Now(), judge: waits.New(bound),
		seen: make([]int, len(c.Journals)), late: make(map[string]bool),
		restored: make(map[*script.Schedule]time.Time),
	}
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
	if err := r.setToWork(ctx, s); err != nil {
		return nil, fmt.Errorf("%w in\n%v%s", err, s, r.tails())
	}
	var backup string
	if s.Restore {
		if backup, err = r.backUp(ctx); err != nil {
			return nil, err
		}
	}
	calm, err := r.takeCalmly(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("%w in\n%v", err, s)
	}
	ordered := func() error { return nil }
	if s.Registers {
		ordered = r.exercise(ctx, s.Title)
	}
	taken, err := r.disturb(ctx, s)
	taken = append(taken, calm...)
	if wrong := ordered(); err != nil || wrong != nil {
		return nil, fmt.Errorf("%w in\n%v%s", errors.Join(err, wrong), s, r.tails())
	}
	if s.Restore {
		r.restored[s] = time.Now()
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
	r.dismiss(ctx, s)
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
			trouble := f.Trouble()
			r.judge.Began(trouble)
			defer r.judge.Ended(trouble)
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
	for _, one := range s.Sessions {
		if one.Amid {
			group.Go(func() error {
				pause(ctx, one.At)
				r.startOnce(ctx, one)
				return nil
			})
		}
	}
	var mu sync.Mutex // guards what follows, and r's counts
	var taken []*oracle.Revocation
	var waited []waits.Wait
	for _, v := range s.Revocations {
		group.Go(func() error {
			pause(ctx, v.At)
			t, w, err := r.revoke(ctx, v)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, errUncertain) {
				r.uncertain++
				say(r.out, "  %q: %v\n", v.Name, err)
				return nil
			}
			if err != nil {
				return fmt.Errorf("take %s: %w", v.Name, err)
			}
			taken = append(taken, t)
			waited = append(waited, w)
			return nil
		})
	}
	err := group.Wait()
	for _, w := range waited { // now that it is known what went wrong meanwhile
		r.hold(w)
	}
	return taken, err
}

// recover gives back what was taken until all is well again.
func (r *runner) recover(ctx context.Context, s *script.Schedule, taken []*oracle.Revocation) error {
	now := time.Now()
	for _, t := range taken {
		if t.Sessions == nil || s.Restore { // what has ended goes on by a restore alone
			t.Restored = now
		}
	}
	var err error
	unanswered := false
	given := slices.Clone(s.Revocations)
	if s.Calm != nil {
		given = append(given, s.Calm)
	}
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
	for _, p := range r.Replicas {
		for err == nil && !p.Ready(ctx) {
			if time.Since(now) > recovery {
				err = errors.New("a replica is not ready")
			}
			pause(ctx, 20*time.Millisecond)
		}
	}
	if unanswered {
		pause(ctx, forgotten) // or it gives back what the next schedule takes
	}
	return err
}

func (r *runner) giveSlow(ctx context.Context) error {
	s := cluster.SlowGrant()
	r.judge.Longer(cluster.SlowBound)
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
