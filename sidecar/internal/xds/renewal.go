package xds

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

const (
	// renewTimeout is how long to wait for an answer. The control plane answers
	// within two seconds, so that a later one means a dead connection.
	renewTimeout = 5 * time.Second
	// renewRetry is how long to wait after a failure, about.
	renewRetry = 250 * time.Millisecond
	// maxBound is the longest bound that is believed.
	maxBound = 15 * time.Minute
)

// errOtherRequest: the answer is to a request that was not the last one made.
var errOtherRequest = errors.New("answer to another request")

// renewals asks for freshness. One goroutine runs it; seen is safe for
// concurrent use.
type renewals struct {
	freshness grantv1.FreshnessClient
	clock     replica.Clock
	replica   *replica.Replica
	log       *slog.Logger
	fresh     func()
	newest    *atomic.Int64
}

func newRenewals(c *Client) renewals {
	return renewals{
		freshness: grantv1.NewFreshnessClient(c.cfg.Conn),
		clock:     c.cfg.Clock, replica: c.cfg.Replica, log: c.cfg.Log,
		fresh:  func() { c.readyOnce.Do(func() { close(c.ready) }) },
		newest: new(atomic.Int64),
	}
}

// seen returns the newest revision that an answer spoke of.
func (r renewals) seen() int64 { return r.newest.Load() }

// run asks for freshness on behalf of a stream until ctx ends: at once, for a
// sidecar that holds everything already is sent nothing; then at every third of
// the bound; and when the stream has caught up while there is no freshness. If the
// control plane does not know the stream or does not answer, it ends the stream.
func (r renewals) run(ctx context.Context, stream string, caughtUp <-chan struct{}, end context.CancelCauseFunc) {
	for {
		bound, err := r.renew(ctx, stream)
		wait := bound / 3
		switch code := status.Code(err); {
		case err == nil:
			r.fresh()
		case ctx.Err() != nil:
			return
		case code == codes.NotFound, code == codes.DeadlineExceeded, code == codes.PermissionDenied:
			end(fmt.Errorf("renew freshness: %w", err))
			return
		default:
			r.log.WarnContext(ctx, "freshness not renewed", slog.Any("error", err))
			wait = renewRetry + mathrand.N(renewRetry) //nolint:gosec // spreads a herd, and is no secret
		}
		if !r.pause(ctx, wait, caughtUp) {
			return
		}
	}
}

// pause waits, but no longer than until the stream has caught up while there is
// no freshness: whoever is fresh has time until the next turn. It reports whether
// ctx goes on.
func (r renewals) pause(ctx context.Context, wait time.Duration, caughtUp <-chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-caughtUp:
			if !r.replica.View().Live() {
				return true
			}
		}
	}
}

// renew asks once. An id is used for one request only, and only the answer to
// the last one counts, so an answer that was held up extends nothing.
func (r renewals) renew(ctx context.Context, stream string) (bound time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	var id [16]byte
	rand.Read(id[:]) // never fails
	ask := &grantv1.RenewRequest{Stream: stream, RequestId: hex.EncodeToString(id[:])}
	sent := r.clock()
	m, err := r.freshness.Renew(ctx, ask)
	if err != nil {
		return 0, err
	}
	if m.GetRequestId() != ask.GetRequestId() {
		return 0, errOtherRequest
	}
	bound = m.GetBound().AsDuration()
	if bound <= 0 || bound > maxBound || m.GetNow().CheckValid() != nil {
		return 0, fmt.Errorf("%w: bound %s and clock %s", errProtocol, bound, m.GetNow())
	}
	r.newest.Store(max(r.newest.Load(), m.GetRevision()))
	r.replica.Extend(sent, bound, m.GetNow().AsTime())
	return bound, nil
}
