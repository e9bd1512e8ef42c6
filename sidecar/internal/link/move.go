package link

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
)

// Move gives up the connection, if there is one, which ends its calls, and
// chooses the next replica. It waits first if every replica has failed since one
// was of use, longer each time. patient says that the next one will hardly do
// better, and has it wait anyway.
//
// reason is one of a few words, for the metric. Move returns an error only when
// ctx ends or the link is closed.
func (l *Link) Move(ctx context.Context, reason string, patient bool) error {
	from, pause := l.leave(patient)
	if from != "" {
		l.moves.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
	} else {
		l.resolve(ctx)
	}
	if pause > 0 {
		l.log.InfoContext(ctx, "waiting before the next replica", slog.String("reason", reason), slog.Duration("pause", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		case <-l.closed:
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	to, err := l.join()
	if err != nil {
		return err
	}
	l.log.InfoContext(ctx, "replica chosen", slog.String("reason", reason), slog.String("from", from), slog.String("to", to))
	l.refresh(ctx)
	return nil
}

// Settle says that the replica is of use: leaving it is the beginning of a new
// round.
func (l *Link) Settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.settled.IsZero() {
		l.settled = time.Now()
	}
}

// Replicas returns how many addresses there are to go to.
func (l *Link) Replicas() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(len(l.listed), len(l.order.all))
}

// Close gives up the connection and waits until nothing is left of it. Calls
// fail from then on.
func (l *Link) Close() error {
	// Closed first: a move that goes on beside this joins nothing any more.
	l.mu.Lock()
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	if l.looking != nil {
		l.looking()
	}
	l.mu.Unlock()
	l.leave(false)
	l.work.Wait()
	return nil
}

// leave gives up the connection and returns where it led to and how long to wait
// before the next.
func (l *Link) leave(patient bool) (from string, pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return l.address, 0
	}
	var useful time.Duration
	if !l.settled.IsZero() {
		useful = time.Since(l.settled)
	}
	pause = l.pace.next(l.rand, len(l.order.all), useful, patient)
	conn := l.conn
	l.conn, l.settled, l.changed = nil, time.Time{}, make(chan struct{})
	// It says farewell to a peer that may not take it, for up to 5 s.
	l.work.Go(func() { _ = conn.Close() })
	return l.address, pause
}

// join connects to the next replica: the calls that wait go there.
func (l *Link) join() (to string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return "", errClosed
	default:
	}
	to = l.order.take()
	conn, err := grpc.NewClient("passthrough:///"+to, l.options...)
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", to, err)
	}
	l.address, l.conn = to, conn
	close(l.changed)
	return to, nil
}

// resolve looks the names up for the first time.
func (l *Link) resolve(ctx context.Context) {
	found := l.resolver.resolve(ctx, l.listed)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.order.set(found)
}

// refresh looks the names up beside everything else, unless that goes on
// already.
func (l *Link) refresh(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return
	default:
	}
	if l.looking != nil || !slices.ContainsFunc(l.listed, named) {
		return
	}
	ctx, l.looking = context.WithCancel(ctx)
	l.work.Go(func() {
		found := l.resolver.resolve(ctx, l.listed)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.looking()
		l.looking = nil
		l.order.set(found)
	})
}
