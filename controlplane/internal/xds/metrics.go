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

// The outcomes that are counted, made once: thousands of sidecars answer at once.
var (
	outcomeACK     = outcome("ack")
	outcomeNACK    = outcome("nack")
	outcomeGranted = outcome("granted")
	outcomeRefused = outcome("refused")
)

func outcome(name string) []metric.AddOption {
	return []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", name)))}
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

// answered counts an answer; outcome is outcomeACK or outcomeNACK.
func (m *metrics) answered(ctx context.Context, outcome []metric.AddOption) {
	m.answers.Add(ctx, 1, outcome...)
}

// asked counts a request for freshness; outcome is outcomeGranted or
// outcomeRefused.
func (m *metrics) asked(ctx context.Context, outcome []metric.AddOption) {
	m.renewed.Add(ctx, 1, outcome...)
}
