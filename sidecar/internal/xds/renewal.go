package xds

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

const (
	// renewTimeout is how long to wait for an answer at most. The control plane
	// answers within two seconds, so that a later one means a dead connection.
	renewTimeout = 3 * time.Second
	// renewRetry is how long to wait after a failure at most.
	renewRetry = 500 * time.Millisecond
	// maxBound is the longest bound that is believed.
	maxBound = grant.MaxFreshnessBound
	// unfreshPatience is how long a control plane may fail to grant while there is
	// nothing to lose: a store elects a leader in less. behindPatience is that for
	// one that says that the sidecar, or itself, is not up to date: the sidecar may
	// be receiving its set.
	unfreshPatience = 5 * time.Second
	behindPatience  = 15 * time.Second
	forever         = math.MaxInt64
)

// errOtherRequest: the answer is to a request that was not the last one made.
var errOtherRequest = errors.New("answer to another request")

// errCannotGrant is wrapped by the cause with which a stream ends when the
// control plane that it leads to does not grant freshness and another one may. So
// is the error of the last request, with its gRPC status.
var errCannotGrant = errors.New("no freshness is granted here")

// renewals asks for freshness. One goroutine runs it; seen is safe for
// concurrent use.
type renewals struct {
	freshness grantv1.FreshnessClient
	clock     replica.Clock
	replica   *replica.Replica
	log       *slog.Logger
	fresh     func()
	refuses   func() bool
	// others reports whether there is another replica to ask, and heard whether
	// this one sent something after a moment on the clock.
	others func() bool
	heard  func(since time.Duration) bool
	newest *atomic.Int64
}

func newRenewals(c *Client) renewals {
	return renewals{
		freshness: grantv1.NewFreshnessClient(c.cfg.Conn),
		clock:     c.cfg.Clock, replica: c.cfg.Replica, log: c.cfg.Log,
		fresh:   c.fresh,
		refuses: func() bool { return len(c.Status().Refusals) > 0 },
		others:  func() bool { return c.cfg.Replicas.Replicas() > 1 },
		heard:   func(since time.Duration) bool { return time.Duration(c.heard.Load()) > since },
		newest:  new(atomic.Int64),
	}
}

// seen returns the newest revision that an answer spoke of.
func (r renewals) seen() int64 { return r.newest.Load() }

// run asks for freshness on behalf of a stream until ctx ends: at once, for a
// sidecar that holds everything already is sent nothing; then at about every
// third of the shortest bound in use; and when the stream has caught up while
// something held is stale. It ends the stream with errCannotGrant when the
// control plane does not know the stream, or has failed to grant for so long that
// another one should be asked while there is time.
func (r renewals) run(ctx context.Context, stream string, caughtUp <-chan struct{}, end context.CancelCauseFunc) {
	failing := time.Duration(-1) // since when, on the clock; negative if it is not
	for {
		sent := r.clock()
		err := r.renew(ctx, stream, sent)
		var next time.Duration
		switch code := status.Code(err); {
		case err == nil:
			r.fresh()
			failing = -1
			next = sent + spread(r.replica.View().ShortestBound()/3)
		case ctx.Err() != nil:
			return
		case code == codes.FailedPrecondition && caughtMeanwhile(caughtUp):
			failing = -1
			next = r.clock() // what it was asked for may be granted now
		default:
			if failing < 0 {
				failing = sent
			}
			now := r.clock()
			if now-failing >= r.patience(code, failing) {
				end(fmt.Errorf("%w: %w", errCannotGrant, err))
				return
			}
			r.log.WarnContext(ctx, "freshness not renewed", slog.Any("error", err))
			next = now + spread(r.scaled(renewRetry, 12))
		}
		switch r.pause(ctx, next, caughtUp) {
		case ended:
			return
		case caught:
			failing = -1
		case due:
		}
	}
}

// caughtMeanwhile reports whether the stream has caught up since it was last asked.
func caughtMeanwhile(caughtUp <-chan struct{}) bool {
	select {
	case <-caughtUp:
		return true
	default:
		return false
	}
}

// spread returns up to a tenth less than d, so that a fleet does not ask in step.
func spread(d time.Duration) time.Duration {
	return d - mathrand.N(d/10+1) //nolint:gosec // spreads a herd, and is no secret
}

// scaled returns a part of the shortest bound, and no more than most. Where not
// everything is fresh it returns most: then no time is to be lost, but none can
// be won by hurry either.
func (r renewals) scaled(most time.Duration, part int64) time.Duration {
	v := r.replica.View()
	if at, live := v.At(); live && at.Age < v.ShortestBound() {
		return min(most, v.ShortestBound()/time.Duration(part))
	}
	return most
}

// patience returns how long the control plane may fail to grant, which it has
// since a moment on the clock. While everything is fresh that leaves as much time
// again to ask another one; if there is another and this one does not even send
// what it should, no time is lost with it.
func (r renewals) patience(code codes.Code, since time.Duration) time.Duration {
	v := r.replica.View()
	at, live := v.At()
	idle := r.others() && !r.heard(since)
	switch {
	case code == codes.NotFound || code == codes.PermissionDenied || code == codes.Unauthenticated:
		return 0
	case code == codes.FailedPrecondition && r.refuses():
		return forever // it would be refused everywhere
	case idle && (live || code != codes.FailedPrecondition):
		return 0
	case live && at.Age < v.ShortestBound():
		return min(renewTimeout, v.ShortestBound()/2)
	case code == codes.FailedPrecondition && !idle:
		return behindPatience
	default:
		return unfreshPatience
	}
}

// woke is why a pause was over.
type woke uint8

const (
	due    woke = iota // it is time to ask
	caught             // there is something new that is stale
	ended              // so is the stream
)

// pause waits until next on the clock, but no longer than until the stream has
// caught up while something held is stale: whoever is fresh has time until the
// next turn. A grant that came meanwhile may bring the turn forward.
func (r renewals) pause(ctx context.Context, next time.Duration, caughtUp <-chan struct{}) woke {
	timer := time.NewTimer(next - r.clock())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ended
		case <-timer.C:
			return due
		case <-caughtUp:
			v := r.replica.View()
			at, live := v.At()
			if !live || at.Age >= v.ShortestBound() {
				return caught
			}
			timer.Reset(min(next-r.clock(), v.ShortestBound()/3-at.Age))
		}
	}
}

// renew asks once. An id is used for one request only, and only the answer to
// the last one counts, so an answer that was held up extends nothing. sent is the
// clock before the request is made: freshness counts from there.
func (r renewals) renew(ctx context.Context, stream string, sent time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, r.scaled(renewTimeout, 3))
	defer cancel()
	var id [16]byte
	rand.Read(id[:]) // never fails
	ask := &grantv1.RenewRequest{Stream: stream, RequestId: hex.EncodeToString(id[:])}
	m, err := r.freshness.Renew(ctx, ask)
	if err != nil {
		return err
	}
	if m.GetRequestId() != ask.GetRequestId() {
		return errOtherRequest
	}
	bound, longest := m.GetBound().AsDuration(), m.GetLongestBound().AsDuration()
	if bound <= 0 || bound > maxBound || m.GetNow().CheckValid() != nil {
		return fmt.Errorf("%w: bound %s and clock %s", errProtocol, bound, m.GetNow())
	}
	if longest != 0 && (longest < grant.MinFreshnessBound || longest > maxBound) {
		return fmt.Errorf("%w: longest bound %s", errProtocol, longest)
	}
	r.newest.Store(max(r.newest.Load(), m.GetRevision()))
	r.replica.Extend(sent, bound, longest, m.GetNow().AsTime())
	return nil
}
