package session

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/status"
)

// metrics counts what is asked of the control plane.
type metrics struct {
	requests metric.Int64Counter
}

func newMetrics(meter metric.Meter, m *Manager) (*metrics, error) {
	requests, err := meter.Int64Counter("reeve.session.requests",
		metric.WithUnit("{request}"), metric.WithDescription("Requests for sessions and calls, by what was asked and how it was answered."))
	_, failed := meter.Int64ObservableGauge("reeve.session.held",
		metric.WithUnit("{session}"), metric.WithDescription("Sessions of the agent that go on, whoever has claimed them."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			sessions, _ := m.List()
			o.Observe(int64(len(sessions)))
			return nil
		}))
	return &metrics{requests}, errors.Join(err, failed)
}

func (m *metrics) claimed(ctx context.Context, err error) { m.asked(ctx, "claim", err) }
func (m *metrics) opened(ctx context.Context, err error)  { m.asked(ctx, "open", err) }
func (m *metrics) ended(ctx context.Context, err error)   { m.asked(ctx, "end", err) }
func (m *metrics) drew(ctx context.Context, err error)    { m.asked(ctx, "draw", err) }

func (m *metrics) asked(ctx context.Context, what string, err error) {
	result := status.Code(err).String()
	for _, e := range [...]struct {
		err  error
		word string
	}{{ErrInvalid, "InvalidArgument"}, {ErrNotFound, "NotFound"}, {ErrClaimed, "FailedPrecondition"}, {ErrTooMany, "ResourceExhausted"}, {ErrUnavailable, "Unavailable"}} {
		if errors.Is(err, e.err) {
			result = e.word
		}
	}
	m.requests.Add(ctx, 1, metric.WithAttributes(attribute.String("request", what), attribute.String("result", result)))
}
