package xds

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

type metrics struct{ answers metric.Int64Counter }

func newMetrics(meter metric.Meter, r *replica.Replica) (*metrics, error) {
	if meter == nil {
		meter = noop.Meter{}
	}
	answers, err := meter.Int64Counter("reeve.xds.client.answers",
		metric.WithUnit("{answer}"), metric.WithDescription("Answers to responses of the control plane, by outcome."))
	if err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	_, err = meter.Int64ObservableGauge("reeve.replica.revision",
		metric.WithUnit("{revision}"), metric.WithDescription("Newest revision of which everything is held."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(r.View().Snapshot.Revision())
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	_, err = meter.Float64ObservableGauge("reeve.replica.freshness.remaining",
		metric.WithUnit("s"), metric.WithDescription("How long calls may still be allowed if nothing more is heard."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(r.View().FreshFor().Seconds())
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	return &metrics{answers: answers}, nil
}

func (m *metrics) answered(ctx context.Context, a answer) {
	outcome := "ack"
	if len(a.refused) > 0 {
		outcome = "nack"
	}
	m.answers.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}
