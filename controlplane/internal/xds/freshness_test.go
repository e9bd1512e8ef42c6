package xds

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

// Renew waits for the sidecar to hold what the store holds.
func TestRenewWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		all := s.sync()
		time.AfterFunc(1500*time.Millisecond, func() { s.ack(all...) })
		start := time.Now()
		s.renewCode(codes.OK)
		if took := time.Since(start); took != 1500*time.Millisecond {
			t.Errorf("granted after %s, want at the acknowledgement", took)
		}
	})
}

// A sidecar may ask for freshness before its first request was read.
func TestRenewComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := &sidecar{t: t, conn: p.dial("a", "a-1", "k"), has: make(map[string]string)}
		s.dial()
		time.AfterFunc(time.Second, func() {
			s.ask("00000000000000000000000000abcdef", typeURLs[:]...)
			s.ack(s.sync()...)
		})
		s.renewCode(codes.OK)
	})
}

// P2: freshness is granted only by a control plane that has applied what the
// store holds, and that can reach it.
func TestRenewNeedsTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		s := p.open(t, "a")
		s.ack(s.sync()...)
		p.head.Add(1) // a change that has not come here yet
		s.renewCode(codes.FailedPrecondition)
		p.head.Add(-1)
		s.renewCode(codes.OK)
		err := errors.New("no quorum")
		p.headErr.Store(&err)
		s.renewCode(codes.Unavailable)
	})
}

// Freshness is for the sidecar that holds the stream.
func TestRenewOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{}, crm()...)
		a, b := p.open(t, "a"), p.open(t, "b")
		a.ack(a.sync()...)
		b.ack(b.sync()...)
		a.renewCode(codes.OK)
		b.id = a.id
		b.renewCode(codes.NotFound)
		thief := &sidecar{t: t, conn: p.dial("a", "a-1", "another-key"), id: a.id}
		thief.renewCode(codes.NotFound)
		a.id = "0123456789abcdef0123456789abcdef"
		a.renewCode(codes.NotFound)
	})
}

// A read of the head serves only those who asked before it began.
func TestHeadsAreReadAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		reads := 0
		h := newHeads(func(context.Context) (int64, error) {
			mu.Lock()
			reads++
			n := int64(reads)
			mu.Unlock()
			time.Sleep(time.Second)
			return n, nil
		})
		var got [4]int64
		var asking sync.WaitGroup
		ask := func(i int) { asking.Go(func() { got[i], _ = h.newest(t.Context()) }) }
		ask(0)
		synctest.Wait() // the first read runs
		for i := 1; i < 4; i++ {
			ask(i)
		}
		asking.Wait()
		if want := [4]int64{1, 2, 2, 2}; got != want {
			t.Errorf("served by reads %v, want %v", got, want)
		}
	})
}
