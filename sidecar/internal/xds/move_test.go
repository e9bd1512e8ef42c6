package xds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
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

// play has a replica do what one does that has the set at revision 1, until the
// test ends: it refuses whoever has seen more than it has, and sends the set to
// who does not hold it.
func (p *plane) play() {
	for {
		select {
		case s := <-p.opened:
			p.mu.Lock()
			revision := p.revision
			p.mu.Unlock()
			stated, _ := strconv.ParseInt(s.asked[0].GetNode().GetMetadata().AsMap()["revision"].(string), 10, 64)
			if stated > revision {
				s.done <- status.Error(codes.Unavailable, "behind the sidecar's revision")
				continue
			}
			if len(s.asked[0].GetInitialResourceVersions()) == 0 {
				for _, line := range []string{"n1.1.2 agents me@1", "n1.2.2 grants read@1"} {
					_ = s.grpc.Send(response(p.t, strings.Fields(line))) // it may have gone
				}
			}
		case <-p.t.Context().Done():
			return
		}
	}
}

// on4 is on for the ordinary bound.
func on4(planes []*plane) int { return asked(planes, 4*time.Second) }

// on returns which of the replicas the sidecar has asked for freshness in the
// last second; -1 if none.
func on(planes []*plane) int { return asked(planes, time.Second) }

func asked(planes []*plane, within time.Duration) int {
	newest, at := time.Now().Add(-within), -1
	for i, p := range planes {
		p.mu.Lock()
		if n := len(p.renewed); n > 0 && p.renewed[n-1].After(newest) {
			newest, at = p.renewed[n-1], i
		}
		p.mu.Unlock()
	}
	return at
}

// fails are the ways in which a replica is no help.
var fails = map[string]func(p *plane){
	"is killed": func(p *plane) {
		p.gone.Store(true)
		p.cut()
	},
	"is stopped": func(p *plane) { p.stopped.Store(true) },
	"lost the store": func(p *plane) {
		p.set(func() {
			p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				return nil, status.Error(codes.Unavailable, "the store does not answer")
			}
		})
	},
	"reads the store slowly": func(p *plane) {
		p.set(func() {
			p.renew = func(ctx context.Context, _ *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
	},
	"lags behind the store": func(p *plane) {
		p.set(func() {
			p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				return nil, status.Error(codes.FailedPrecondition, "does not hold what the store holds")
			}
		})
	},
	"was restarted": func(p *plane) {
		p.set(func() {
			p.renew = func(context.Context, *grantv1.RenewRequest) (*grantv1.RenewResponse, error) {
				return nil, status.Error(codes.NotFound, "no such stream")
			}
			p.refuse = status.Error(codes.Unavailable, "starting")
		})
	},
	"is full": func(p *plane) {
		p.set(func() { p.refuse = status.Error(codes.ResourceExhausted, "takes no more") })
		p.cut()
	},
	"ends streams at once": func(p *plane) {
		p.set(func() { p.refuse = status.Error(codes.Unavailable, "shutting down") })
		p.cut()
	},
}

// P8: whatever befalls a replica, while one is fine a sidecar stays fresh, even
// with the shortest bound, and even if the third is gone.
func TestOneIsFine(t *testing.T) {
	for name, fail := range fails {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				planes := newPlanes(t, 3, nil)
				for _, p := range planes {
					p.set(func() { p.bound = time.Second })
					go p.play()
				}
				watched := planes[0]
				<-watched.client.Ready()
				time.Sleep(10 * time.Second)
				first := on(planes)
				fail(planes[first])
				fails["is killed"](planes[(first+1)%3])
				start, moved := time.Now(), time.Duration(0)
				for time.Since(start) < 20*time.Second {
					time.Sleep(10 * time.Millisecond)
					watched.live(true)
					if now := on(planes); moved == 0 && now == (first+2)%3 {
						moved = time.Since(start)
					}
				}
				if now := on(planes); now == first {
					t.Error("still there")
				}
				t.Logf("asked another after %s", moved)
			})
		})
	}
}

// With nobody to help there is no freshness, no hurry, and no rest either: the
// fleet is not knocked over by those who come back.
func TestNobodyIsFine(t *testing.T) {
	for name, fail := range fails {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				planes := newPlanes(t, 3, nil)
				for _, p := range planes {
					go p.play()
				}
				<-planes[0].client.Ready()
				for _, p := range planes {
					fail(p)
				}
				time.Sleep(time.Minute)
				planes[0].live(false)
				dialled := 0
				for _, p := range planes {
					dialled += p.dialled()
				}
				time.Sleep(5 * time.Minute)
				for _, p := range planes {
					dialled -= p.dialled()
				}
				if n := -dialled; n < 30 || n > 350 {
					t.Errorf("%d connections in five minutes", n)
				}
				for _, p := range planes {
					p.gone.Store(false)
					p.stopped.Store(false)
					p.set(func() { p.renew, p.refuse = p.granted, nil })
				}
				time.Sleep(30 * time.Second)
				planes[0].live(true)
			})
		})
	}
}

// Who may not act is told so by every replica: it does not ask them in turn
// without a pause.
func TestDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		planes := newPlanes(t, 3, nil)
		for _, p := range planes {
			p.set(func() { p.refuse = status.Error(codes.PermissionDenied, "agent is suspended") })
		}
		for _, p := range planes {
			p.cut() // what was opened before
		}
		time.Sleep(time.Minute)
		dialled := 0
		for _, p := range planes {
			dialled += p.dialled()
		}
		if dialled < 10 || dialled > 40 {
			t.Errorf("%d connections in a minute", dialled)
		}
	})
}

// P2: whatever the replicas are at and whichever it goes to, a sidecar never
// publishes backwards, even if one does not refuse whom it is behind.
func TestNeverBackwards(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			var newest atomic.Int64
			planes := newPlanes(t, 3, func(v *replica.View) {
				at := v.Snapshot.Revision()
				if was := newest.Swap(at); at < was {
					t.Errorf("seed %d: published %d after %d", seed, at, was)
				}
			})
			for _, p := range planes {
				go func() {
					for s := range p.opened {
						p.mu.Lock()
						n := p.revision
						p.mu.Unlock()
						_ = s.grpc.Send(response(t, strings.Fields(fmt.Sprintf("n%d.1.1 agents me@1", n))))
					}
				}()
				defer close(p.opened)
			}
			for range 200 {
				p := planes[r.IntN(len(planes))]
				switch r.IntN(3) {
				case 0:
					p.set(func() { p.revision += r.Int64N(5) })
				case 1:
					p.cut()
				case 2:
					planes[0].client.Leave(errAway)
				}
				time.Sleep(time.Duration(r.Int64N(int64(2 * time.Second))))
			}
			if n := newest.Load(); n < 10 {
				t.Errorf("seed %d: published up to %d only", seed, n)
			}
			for _, p := range planes {
				p.gone.Store(true)
				p.cut()
			}
			synctest.Wait()
		})
	}
}

// A replica that comes back is found again: when a connection has grown old, the
// next one goes elsewhere, in the end everywhere.
func TestFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		planes := newPlanes(t, 3, nil)
		for _, p := range planes {
			go p.play()
		}
		<-planes[0].client.Ready()
		lost := planes[2]
		lost.gone.Store(true)
		lost.cut()
		time.Sleep(time.Hour)
		lost.gone.Store(false)
		seen := make(map[int]int)
		for range 9 {
			at := on4(planes)
			seen[at]++
			planes[at].cut()
			time.Sleep(25 * time.Minute)
			planes[0].live(true)
		}
		if seen[2] < 2 || seen[0] < 2 || seen[1] < 2 {
			t.Errorf("was at %v", seen)
		}
	})
}

// P8: a replica that opens a stream and does not read what the sidecar resumes
// with is left.
func TestNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, nil)
		s := <-p.opened
		set := "n1.1.1 grants"
		for i := range 4000 { // more than the transport takes unread
			set += fmt.Sprintf(" read-%d-of-many@1", i)
		}
		s.send(set)
		s.answer("n1.1.1")
		p.set(func() { p.deaf, p.tries = true, nil })
		s.done <- errAway
		time.Sleep(time.Minute)
		p.set(func() {
			if n := len(p.tries); n < 3 || n > 10 {
				t.Errorf("%d tries in a minute", n)
			}
			p.deaf = false
		})
		s = <-p.opened
		if n := len(s.asked[3].GetInitialResourceVersions()); n != 4000 {
			t.Errorf("resumes with %d", n)
		}
	})
}

// Others who need the replica can have the sidecar give it up; nothing is lost.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		planes := newPlanes(t, 2, nil)
		for _, p := range planes {
			go p.play()
		}
		<-planes[0].client.Ready()
		time.Sleep(10 * time.Second)
		first := on4(planes)
		planes[0].client.Leave(errAway)
		time.Sleep(10 * time.Second)
		planes[0].live(true)
		if on4(planes) == first {
			t.Error("still there")
		}
	})
}
