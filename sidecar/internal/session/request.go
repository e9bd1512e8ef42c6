package session

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What went wrong, for who asked.
var (
	// ErrInvalid wraps what the control plane refuses as it was asked.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound says that the agent has no such session.
	ErrNotFound = errors.New("the agent has no such session")
	// ErrClaimed says that another sidecar has claimed the session.
	ErrClaimed = errors.New("another sidecar has claimed the session")
	// ErrTooMany says that the agent has too many sessions, or asks too often.
	ErrTooMany = errors.New("too many sessions")
	// ErrUnavailable wraps everything else: the control plane cannot be reached, or
	// what it did has not arrived.
	ErrUnavailable = errors.New("unavailable")
)

// newRequest returns the id of a request.
func newRequest() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // documented never to fail
	return hex.EncodeToString(id)
}

// repeat makes a request until it gets through or ctx ends. The same request may be
// made any number of times.
func repeat(ctx context.Context, request func() error) error {
	for {
		err := request()
		switch status.Code(err) {
		case codes.OK:
			return nil
		case codes.Unavailable, codes.Aborted:
		default:
			return errorOf(err)
		}
		select {
		case <-time.After(tryAgain):
		case <-ctx.Done():
			return errorOf(err)
		}
	}
}

// errorOf tells apart what who asked can tell apart.
func errorOf(err error) error {
	said := status.Convert(err).Message()
	switch status.Code(err) {
	case codes.InvalidArgument:
		return fmt.Errorf("%w: %s", ErrInvalid, said)
	case codes.NotFound:
		return fmt.Errorf("%w: %s", ErrNotFound, said)
	case codes.FailedPrecondition:
		return fmt.Errorf("%w: %s", ErrClaimed, said)
	case codes.ResourceExhausted:
		return fmt.Errorf("%w: %s", ErrTooMany, said)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}
