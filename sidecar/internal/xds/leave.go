package xds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// openTimeout is how long a stream may take until it is open and everything has
	// been asked for on it, with no other replica to go to, and openElsewhere if
	// there is one; then no longer than half of the time for which there is freshness
	// either, but minOpen at least, so that a replica which is only slow has its
	// chance.
	openTimeout   = 10 * time.Second
	openElsewhere = 5 * time.Second
	minOpen       = 250 * time.Millisecond
	// maxScatter is how long a sidecar waits at the most, at random, before it goes
	// to another replica; it waits no more than a 20th of the time for which there
	// is freshness.
	maxScatter = 500 * time.Millisecond
)

var (
	// errSilent: the replica did not open a stream and take what was asked for on
	// it, nor refuse to.
	errSilent = errors.New("no answer")
	// errUploads is wrapped by the cause with which [Client.Leave] ends a stream.
	errUploads = errors.New("it does not store records")
)

// A leaving is why a replica is left.
type leaving struct {
	// reason is a word for the metric.
	reason string
	// patient says that the next replica will hardly do better.
	patient bool
}

// leavingOf reads why a stream ended.
func leavingOf(err error) leaving {
	switch {
	case errors.Is(err, errSilent):
		return leaving{reason: "silent"}
	case errors.Is(err, errProtocol):
		return leaving{reason: "protocol"}
	case errors.Is(err, errUploads):
		return leaving{reason: "uploads"}
	}
	switch status.Code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		// The agent may not act, and will be told so elsewhere too.
		return leaving{reason: "denied", patient: true}
	case codes.DeadlineExceeded:
		return leaving{reason: "silent"}
	case codes.ResourceExhausted:
		return leaving{reason: "full"}
	case codes.NotFound:
		return leaving{reason: "unknown_stream"}
	case codes.FailedPrecondition:
		return leaving{reason: "behind"}
	case codes.Unavailable:
		return leaving{reason: "unavailable"}
	default:
		return leaving{reason: "ended"}
	}
}

// Leave has the client give up the replica, if it has a stream with one and there
// is another to go to, because it does not store records, for a cause. It is safe
// for concurrent use and returns at once.
func (c *Client) Leave(cause error) {
	if c.cfg.Replicas.Replicas() == 1 {
		return
	}
	select {
	case c.leave <- fmt.Errorf("%w: %w", errUploads, cause):
	default: // it is leaving already
	}
}

// fresh takes note of a request for freshness that was granted.
func (c *Client) fresh() {
	c.cfg.Replicas.Settle()
	c.readyOnce.Do(func() { close(c.ready) })
}

// left returns for how long everything held, or else what names no bound of its
// own, may be acted on if nothing more is heard.
func (c *Client) left() time.Duration {
	v := c.cfg.Replica.View()
	if at, live := v.At(); live && v.ShortestBound() > at.Age {
		return v.ShortestBound() - at.Age
	}
	return v.FreshFor()
}

// openWithin returns how long a stream may take to be opened.
func (c *Client) openWithin() time.Duration {
	if c.cfg.Replicas.Replicas() == 1 {
		return openTimeout
	}
	if left := c.left(); left > 0 {
		return min(max(left/2, minOpen), openElsewhere)
	}
	return openElsewhere
}

// scatter waits for a moment, so that those who lose a replica together do not
// come to the next one together. Whoever has one replica only is made to wait by
// Move.
func (c *Client) scatter(ctx context.Context) {
	longest := min(c.left()/20, maxScatter)
	if longest <= 0 || c.cfg.Replicas.Replicas() == 1 {
		return
	}
	select {
	case <-time.After(rand.N(longest)): //nolint:gosec // spreads a herd, and is no secret
	case <-ctx.Done():
	}
}
