package quota

import (
	"context"
	"errors"
	"sync/atomic"

	"go.opentelemetry.io/otel/metric"
)

// metrics counts what is counted.
type metrics struct {
	taken, returned, drawn, failed atomic.Int64
	registration                   metric.Registration
}

func newMetrics(meter metric.Meter, q *Quota) (*metrics, error) {
	var m metrics
	var errs [7]error
	var counts [4]metric.Int64ObservableCounter
	for i, c := range [...]struct{ name, unit, what string }{
		{"reeve.quota.taken", "{call}", "Calls counted against limits."},
		{"reeve.quota.returned", "{call}", "Calls that were counted and not made."},
		{"reeve.quota.drawn", "{call}", "Calls drawn from what sidecars share."},
		{"reeve.quota.failures", "{call}", "Calls that could not be counted, and so were denied."},
	} {
		counts[i], errs[i] = meter.Int64ObservableCounter(c.name, metric.WithUnit(c.unit), metric.WithDescription(c.what))
	}
	var counters, damaged metric.Int64ObservableGauge
	counters, errs[4] = meter.Int64ObservableGauge("reeve.quota.counters",
		metric.WithUnit("{counter}"), metric.WithDescription("Counters in use, of grants and sessions under limits."))
	damaged, errs[5] = meter.Int64ObservableGauge("reeve.quota.damaged",
		metric.WithUnit("{counter}"), metric.WithDescription("Counters that cannot be relied on: calls under them are denied."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	m.registration, errs[6] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for i, n := range [...]*atomic.Int64{&m.taken, &m.returned, &m.drawn, &m.failed} {
			o.ObserveInt64(counts[i], n.Load())
		}
		all, broken := q.counted()
		o.ObserveInt64(counters, all)
		o.ObserveInt64(damaged, broken)
		return nil
	}, counts[0], counts[1], counts[2], counts[3], counters, damaged)
	return &m, errs[6]
}

func (m *metrics) end() error { return m.registration.Unregister() }

// counted returns how many counters there are and how many of them are damaged.
func (q *Quota) counted() (all, damaged int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.counters {
		if s.broken {
			damaged++
		}
	}
	if q.blind != "" {
		damaged++
	}
	return int64(len(q.counters)), damaged
}
