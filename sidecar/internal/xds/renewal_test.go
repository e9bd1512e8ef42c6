package xds

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

// P8: within the bound the control plane's absence changes nothing; past it,
// nothing is allowed.
func TestFreshForOneBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		p.serve()
		p.set(func() {
			p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				return nil, status.Error(codes.Unavailable, "the store does not answer")
			}
		})
		time.Sleep(bound - time.Nanosecond)
		p.live(true)
		time.Sleep(time.Nanosecond)
		p.live(false)
		p.set(func() { p.renew = p.granted })
		time.Sleep(2 * renewRetry)
		p.live(true)
	})
}

// Freshness is asked for at every third of the bound, or a little sooner.
func TestRenewsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		p.serve()
		before := p.renewals()
		for range 3600 {
			time.Sleep(time.Second)
			p.live(true)
		}
		if n := p.renewals() - before; n < 1080 || n > 1200 {
			t.Errorf("asked %d times in an hour, want 1080 and up to a tenth more", n)
		}
	})
}

// P2: freshness counts from when it was asked for, not from the answer.
func TestAnswerIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		p.serve()
		p.set(func() {
			p.renew = func(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				time.Sleep(2 * time.Second)
				return p.granted(ctx, r)
			}
		})
		time.Sleep(bound/3 + 2*time.Second + time.Millisecond)
		synctest.Wait()
		if left, want := p.replica.View().FreshFor(), bound-2*time.Second; left > want || left < want-time.Second {
			t.Errorf("fresh for %s, want about %s", left, want)
		}
	})
}

// P2: the machine slept, or was paused: what was fresh before is not any more,
// and what is open is cut soon.
func TestAsleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cut := make(chan bool, 100)
		p := newPlane(t, func(v *replica.View) { cut <- v.Live() })
		p.serve()
		p.set(func() {
			p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				return nil, status.Error(codes.Unavailable, "no")
			}
		})
		synctest.Wait()
		for len(cut) > 0 {
			<-cut
		}
		p.ahead.Store(int64(time.Hour))
		p.live(false)
		start := time.Now()
		if live := <-cut; live || time.Since(start) > 250*time.Millisecond {
			t.Errorf("cut %s after it woke up, live: %t", time.Since(start), live)
		}
	})
}

// An answer counts only for the request that was made last.
func TestAnswerToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		used := make(map[string]bool)
		p.set(func() {
			p.renew = func(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				if used[r.GetRequestId()] {
					t.Error("an id was used twice")
				}
				used[r.GetRequestId()] = true
				m, err := p.granted(ctx, r)
				m.RequestId = "0123456789abcdef0123456789abcdef"
				return m, err
			}
		})
		s := <-p.opened
		s.send("n1.1.1 agents me@1")
		s.answer("n1.1.1")
		time.Sleep(time.Minute)
		p.live(false)
		if len(used) < 60 {
			t.Errorf("asked %d times in a minute", len(used))
		}
	})
}

// P2: a grant with a longer bound than the last answer spoke of waits for the
// next.
func TestLongerGrantThanAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := p.serve()
		renew := func(err error, longest time.Duration) {
			p.set(func() {
				p.longest = longest
				p.renew = func(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
					if err != nil {
						return nil, err
					}
					return p.granted(ctx, r)
				}
			})
		}
		renew(status.Error(codes.Unavailable, "no quorum"), 0)
		s.send("n2.1.1 grants long~10m@2")
		s.answer("n2.1.1")
		time.Sleep(bound - time.Nanosecond)
		p.live(true)
		time.Sleep(time.Nanosecond)
		p.live(false)
		renew(nil, 10*time.Minute)
		time.Sleep(time.Minute)
		renew(status.Error(codes.Unavailable, "no quorum"), 0)
		time.Sleep(10*time.Minute - bound/3 - time.Second)
		p.live(true)
		time.Sleep(bound/3 + time.Second)
		p.live(false)
	})
}

// P2: an answer that speaks of bounds that there are none of extends nothing.
func TestImpossibleBounds(t *testing.T) {
	for _, c := range []struct {
		bound, longest time.Duration
		ok             bool
	}{
		{bound, 0, true},
		{bound, time.Second, true},
		{bound, maxBound, true},
		{maxBound, 0, true},
		{0, 0, false},
		{maxBound + 1, 0, false},
		{bound, time.Second - 1, false},
		{bound, -time.Second, false},
		{bound, maxBound + 1, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlane(t, nil)
			p.set(func() { p.bound, p.longest = c.bound, c.longest })
			s := <-p.opened
			s.send("n1.1.1 agents me@1")
			s.answer("n1.1.1")
			time.Sleep(time.Second)
			if p.live(c.ok); t.Failed() {
				t.Errorf("answered %s and %s", c.bound, c.longest)
			}
		})
	}
}

// gaps returns the times between requests for freshness within d.
func (p *plane) gaps(d time.Duration) (all []time.Duration) {
	p.set(func() { p.renewed = nil })
	time.Sleep(d)
	p.set(func() {
		for i := 1; i < len(p.renewed); i++ {
			all = append(all, p.renewed[i].Sub(p.renewed[i-1]))
		}
	})
	return all
}

// P8: the shortest bound held says how often to ask, for as long as it is held.
// No two requests are the same time apart, so that a fleet does not ask in step.
func TestAsksByTheShortestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := p.serve()
		check := func(third time.Duration) {
			t.Helper()
			gaps := p.gaps(time.Minute)
			if n := int(time.Minute / third); len(gaps) < n-1 || len(gaps) > n*10/9+1 {
				t.Errorf("asked %d times in a minute, want about %d", len(gaps)+1, n)
			}
			same := 0
			for i, gap := range gaps {
				if gap > third || gap < third*9/10 {
					t.Errorf("asked after %s, want up to a tenth less than %s", gap, third)
				}
				if i > 0 && gap == gaps[i-1] {
					same++
				}
			}
			if same > 1 {
				t.Errorf("asked in step %d times", same)
			}
		}
		s.send("n2.1.1 grants short~3s@2 long~10m@2")
		s.answer("n2.1.1")
		time.Sleep(bound / 3)
		check(time.Second)
		s.send("n3.1.1 grants -short")
		s.answer("n3.1.1")
		time.Sleep(bound / 3)
		check(bound / 3)
	})
}

// P8: a bound of a second survives a lost request.
func TestLostRequestUnderShortBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := p.serve()
		s.send("n2.1.1 grants short~1s@2")
		s.answer("n2.1.1")
		time.Sleep(bound / 3)
		var asked atomic.Int64
		p.set(func() {
			p.renew = func(ctx context.Context, r *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				if asked.Add(1)%2 == 0 {
					<-ctx.Done()
				}
				return p.granted(ctx, r)
			}
		})
		for range 6000 {
			time.Sleep(10 * time.Millisecond)
			if at, live := p.replica.View().At(); !live || at.Age >= time.Second {
				t.Fatalf("live: %t at age %s", live, at.Age)
			}
		}
		if n := asked.Load(); n < 60 {
			t.Errorf("asked %d times in a minute", n)
		}
	})
}

// P8: a grant that comes while the last answer is too old for it is asked for at
// once, and one for which it is still young enough in time.
func TestAsksForNewGrant(t *testing.T) {
	for _, age := range []time.Duration{500 * time.Millisecond, 2500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlane(t, nil)
			s := p.serve()
			time.Sleep(bound)
			synctest.Wait()
			at, _ := p.replica.View().At()
			time.Sleep(bound/3*9/10 - at.Age) // right before the next request
			for at.Age = bound; at.Age > time.Second; at, _ = p.replica.View().At() {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(age - at.Age)
			before := p.renewals()
			s.send("n2.1.1 grants short~2s@2")
			s.answer("n2.1.1")
			synctest.Wait()
			if asked := p.renewals() > before; asked != (age > 2*time.Second) {
				t.Errorf("at age %s asked: %t", age, asked)
			}
			for range 4000 {
				if at, _ := p.replica.View().At(); at.Age >= 2*time.Second {
					t.Fatalf("the grant is stale at age %s", at.Age)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// P8: a control plane that does not grant is given up while there is time to ask
// another, and its stream ends for that.
func TestGivesUpWhoDoesNotGrant(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		from, to time.Duration
	}{
		"no quorum":      {status.Error(codes.Unavailable, "no quorum"), 0, bound / 2},
		"behind":         {status.Error(codes.FailedPrecondition, "behind"), 0, bound / 2},
		"unknown stream": {status.Error(codes.NotFound, "unknown"), 0, renewRetry},
		"silent":         {nil, renewTimeout, renewTimeout + renewRetry},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlane(t, nil)
				p.serve()
				var first time.Time
				p.set(func() {
					p.renew = func(ctx context.Context, _ *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
						p.set(func() {
							if first.IsZero() {
								first = time.Now()
							}
						})
						if c.err == nil {
							<-ctx.Done()
						}
						return nil, c.err
					}
				})
				for p.client.Status().Connected {
					time.Sleep(10 * time.Millisecond)
				}
				p.set(func() {
					if took := time.Since(first); took < c.from || took > c.to {
						t.Errorf("given up after %s, want from %s to %s", took, c.from, c.to)
					}
				})
				if err := p.client.Status().Err; !errors.Is(err, errCannotGrant) {
					t.Errorf("ended by %v", err)
				}
				if !p.replica.View().Live() {
					t.Error("given up when it was too late")
				}
			})
		})
	}
}

// P8: a sidecar that is receiving its set is let go on: as long as there is
// progress, that it is behind is no reason to leave.
func TestBehindWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		p.set(func() {
			p.renew = func(ctx context.Context, _ *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				select {
				case <-ctx.Done():
				case <-time.After(2 * time.Second):
				}
				return nil, status.Error(codes.FailedPrecondition, "behind")
			}
		})
		p.replica.Lapse() // what was granted before that
		s := <-p.opened
		for i, line := range []string{"n1.1.1 agents me@1", "n2.1.1 grants a@2", "n3.1.1 grants b@3", "n4.1.1 grants c@4"} {
			s.send(line)
			s.answer(strings.Fields(line)[0])
			time.Sleep(behindPatience - 3*time.Second)
			if !p.client.Status().Connected {
				t.Fatalf("left after part %d", i)
			}
		}
		start := time.Now()
		for p.client.Status().Connected {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(start); took > behindPatience {
			t.Errorf("left %s after the last part", took)
		}
		if err := p.client.Status().Err; !errors.Is(err, errCannotGrant) {
			t.Errorf("ended by %v", err)
		}
	})
}
