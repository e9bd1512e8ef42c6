package session_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/sidecar/internal/session"
)

var offline = status.Error(codes.Unavailable, "no control plane")

// P1: a session is claimed before the first call in it is decided, once however many
// calls there are, and they wait until what is held says so.
func TestEnsureClaimsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.plane.there(t, "s", "")
		g.plane.set(func(b *behaviour) { b.streams = time.Second })
		began := time.Now()
		var callers sync.WaitGroup
		for n := range 50 {
			callers.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if n == 0 {
					cancel() // the claim is for all of them
				}
				g.Ensure(ctx, "s")
				if whose := g.claimant("s"); whose != mine {
					t.Errorf("whose: %q", whose)
				}
			})
		}
		callers.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %s", took)
		}
		g.Ensure(t.Context(), "s")
		g.Ensure(t.Context(), "no such session")
		if did := g.plane.did(); !slices.Equal(did, []string{"claim"}) {
			t.Errorf("asked %q", did)
		}
	})
}

// A call waits for a claim for no longer than 2 s, whatever the control plane does,
// and one that comes soon after a claim that failed does not wait at all.
func TestEnsureIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*behaviour)
		most time.Duration
	}{
		"silent":    {func(b *behaviour) { b.waits = time.Hour }, 2 * time.Second},
		"no stream": {func(b *behaviour) { b.streams = -1 }, 2 * time.Second},
		"offline":   {func(b *behaviour) { b.fails = func(int) error { return offline } }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				g.plane.there(t, "s", "")
				g.plane.set(c.set)
				began := time.Now()
				g.Ensure(t.Context(), "s")
				if took := time.Since(began); took != c.most {
					t.Errorf("took %s, want %s", took, c.most)
				}
				began = time.Now()
				for range 100 {
					g.Ensure(t.Context(), "s")
				}
				if took := time.Since(began); took != 0 || len(g.plane.did()) > 1 {
					t.Errorf("took %s and asked %q", took, g.plane.did())
				}
				if whose := g.claimant("s"); whose != "" {
					t.Errorf("whose: %q", whose)
				}
				time.Sleep(time.Second)
				g.plane.set(func(b *behaviour) { *b = behaviour{} })
				g.Ensure(t.Context(), "s")
				if whose := g.claimant("s"); whose != mine {
					t.Errorf("whose: %q when the control plane is back", whose)
				}
			})
		})
	}
}

// P1: of two sidecars that claim at once one has the session, and the other's calls
// wait until they can be denied for the reason.
func TestEnsureLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		s := g.plane.there(t, "s", "")
		g.plane.mu.Lock()
		s.Claimant = other // stored, and not streamed so far
		g.plane.mu.Unlock()
		g.plane.streaming.Go(func() {
			time.Sleep(time.Second)
			g.plane.there(t, "s", other)
		})
		began := time.Now()
		g.Ensure(t.Context(), "s")
		if whose := g.claimant("s"); whose != other || time.Since(began) != time.Second {
			t.Errorf("whose: %q after %s", whose, time.Since(began))
		}
	})
}

// A session that is opened is held and this sidecar's when Open returns; an answer
// that is lost opens no second one.
func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.plane.set(func(b *behaviour) { b.streams = time.Second })
		only := func(which int) func(int) error {
			return func(n int) error {
				if n == which {
					return offline
				}
				return nil
			}
		}
		g.plane.set(func(b *behaviour) { b.fails, b.loses = only(0), only(1) })
		s, err := g.Open(t.Context(), session.Wanted{Purpose: "triage", TTL: time.Minute, MaxCalls: 20})
		if err != nil {
			t.Fatal(err)
		}
		if g.claimant(s.ID()) != mine || s.Purpose() != "triage" || s.Limits().MaxCalls != 20 {
			t.Errorf("%v, %q", s, g.claimant(s.ID()))
		}
		if did, n := g.plane.did(), len(g.plane.sessions); len(did) != 3 || n != 1 {
			t.Errorf("asked %q, %d sessions", did, n)
		}
		synctest.Wait()
	})
}

// What the control plane refuses is told apart, and what does not arrive is no
// success.
func TestOpenFails(t *testing.T) {
	for _, c := range []struct {
		set  func(*behaviour)
		want error
	}{
		{func(b *behaviour) { b.fails = refuse(codes.InvalidArgument) }, session.ErrInvalid},
		{func(b *behaviour) { b.fails = refuse(codes.ResourceExhausted) }, session.ErrTooMany},
		{func(b *behaviour) { b.fails = refuse(codes.PermissionDenied) }, session.ErrUnavailable},
		{func(b *behaviour) { b.fails = refuse(codes.Unavailable) }, session.ErrUnavailable},
		{func(b *behaviour) { b.waits = time.Hour }, session.ErrUnavailable},
		{func(b *behaviour) { b.streams = -1 }, session.ErrUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t)
			g.plane.set(c.set)
			began := time.Now()
			if _, err := g.Open(t.Context(), session.Wanted{}); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func refuse(code codes.Code) func(int) error {
	return func(int) error { return status.Error(code, "refused") }
}

// P2: when Close returns, the session is not held any more. It may be repeated.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.plane.there(t, "s", mine)
		g.plane.there(t, "theirs", other)
		g.plane.set(func(b *behaviour) { b.streams = time.Second })
		began := time.Now()
		if err := g.Close(t.Context(), "s"); err != nil || g.claimant("s") != "none" || time.Since(began) != time.Second {
			t.Errorf("%v, %q, after %s", err, g.claimant("s"), time.Since(began))
		}
		if err := g.Close(t.Context(), "s"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
		if err := g.Close(t.Context(), "../../x"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("no id: %v", err)
		}
		if err := g.Close(t.Context(), "theirs"); !errors.Is(err, session.ErrClaimed) {
			t.Errorf("another's: %v", err)
		}
		time.Sleep(time.Minute)
		g.plane.there(t, "s", mine)
		g.plane.set(func(b *behaviour) { b.streams = -1 })
		if err := g.Close(t.Context(), "s"); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("not enforced: %v", err)
		}
		time.Sleep(time.Hour)
	})
}

func TestDrawCalls(t *testing.T) {
	g := newRig(t)
	drawn, left, err := g.DrawCalls(t.Context(), "namespaces/default/grants/g", "uid", 5, "0123456789abcdef")
	if drawn != 5 || left != 7 || err != nil {
		t.Errorf("%d, %d, %v", drawn, left, err)
	}
	g.plane.set(func(b *behaviour) { b.fails = refuse(codes.NotFound) })
	if drawn, _, err := g.DrawCalls(t.Context(), "namespaces/default/grants/g", "uid", 5, "0123456789abcdef"); err == nil || drawn != 0 {
		t.Errorf("%d, %v", drawn, err)
	}
}
