package xds

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

type metrics struct {
	streams metric.Int64UpDownCounter
	answers metric.Int64Counter
	renewed metric.Int64Counter
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	if meter == nil {
		meter = noop.Meter{}
	}
	var m metrics
	var err error
	if m.streams, err = meter.Int64UpDownCounter("reeve.xds.server.streams",
		metric.WithUnit("{stream}"), metric.WithDescription("Open streams of sidecars.")); err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	if m.answers, err = meter.Int64Counter("reeve.xds.server.answers",
		metric.WithUnit("{answer}"), metric.WithDescription("Answers of sidecars to responses, by outcome.")); err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	if m.renewed, err = meter.Int64Counter("reeve.xds.server.renewals",
		metric.WithUnit("{request}"), metric.WithDescription("Requests for freshness, by outcome.")); err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	return &m, nil
}

func (m *metrics) opened(ctx context.Context) { m.streams.Add(ctx, 1) }
func (m *metrics) closed(ctx context.Context) { m.streams.Add(ctx, -1) }

// answered counts an answer; outcome is ack or nack.
func (m *metrics) answered(ctx context.Context, outcome string) {
	m.answers.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}

// asked counts a request for freshness; outcome is granted or refused.
func (m *metrics) asked(ctx context.Context, outcome string) {
	m.renewed.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}
