package audit

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type metrics struct {
	records metric.Int64Counter
	refusal metric.Int64Counter

	added, repeated metric.MeasurementOption
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := &metrics{
		added:    metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", "stored"))),
		repeated: metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", "repeated"))),
	}
	var err error
	m.records, err = meter.Int64Counter("reeve.audit.ingest.records",
		metric.WithDescription("Records taken from sidecars: stored, or dropped because they were stored already."),
		metric.WithUnit("{record}"))
	if err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	m.refusal, err = meter.Int64Counter("reeve.audit.ingest.refusals",
		metric.WithDescription("Batches that were not taken."),
		metric.WithUnit("{batch}"))
	if err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	return m, nil
}

// stored counts the records of a batch that was acknowledged.
func (m *metrics) stored(ctx context.Context, added, repeated int64) {
	m.records.Add(ctx, added, m.added)
	if repeated > 0 {
		m.records.Add(ctx, repeated, m.repeated)
	}
}

// refused counts a batch that was not taken.
func (m *metrics) refused(ctx context.Context) { m.refusal.Add(ctx, 1) }
