package audit

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics counts without touching an instrument, because it counts on the way
// of every call; instruments read the counts when they are collected.
type metrics struct {
	written, refused atomic.Int64
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := &metrics{}
	outcome := func(word string) metric.ObserveOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", word)))
	}
	written, refused := outcome("written"), outcome("refused")
	_, err := meter.Int64ObservableCounter("reeve.audit.records",
		metric.WithDescription("Records written to the spool, or refused and their calls denied."),
		metric.WithUnit("{record}"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(m.written.Load(), written)
			o.Observe(m.refused.Load(), refused)
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	return m, nil
}
