package xds

import (
	"context"
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
