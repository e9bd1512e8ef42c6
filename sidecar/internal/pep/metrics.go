package pep

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// metrics counts what was decided and how it ended. Its options are made once:
// a call pays for counting, not for naming.
type metrics struct {
	decisions metric.Int64Counter
	duration  metric.Float64Histogram
	outcomes  metric.Int64Counter

	reasons  []metric.MeasurementOption
	statuses []metric.MeasurementOption
}

func newMetrics(meter metric.Meter, open func() int) (*metrics, error) {
	var m metrics
	var errs [4]error
	m.decisions, errs[0] = meter.Int64Counter("reeve.pep.decisions",
		metric.WithUnit("{decision}"), metric.WithDescription("Calls decided, by reason."))
	m.duration, errs[1] = meter.Float64Histogram("reeve.pep.decision.duration",
		metric.WithUnit("s"), metric.WithDescription("Time to decide a call and have the decision recorded."),
		metric.WithExplicitBucketBoundaries(1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2, 1e-1))
	m.outcomes, errs[2] = meter.Int64Counter("reeve.pep.outcomes",
		metric.WithUnit("{call}"), metric.WithDescription("Allowed calls that came to an end, by how."))
	_, errs[3] = meter.Int64ObservableGauge("reeve.pep.open",
		metric.WithUnit("{call}"), metric.WithDescription("Calls and streams that are open."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(open()))
			return nil
		}))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for r := range pdp.Reasons {
		m.reasons = append(m.reasons, metric.WithAttributeSet(attribute.NewSet(attribute.String("reason", r.String()))))
	}
	for s := decisionv1.Outcome_STATUS_UNSPECIFIED; s <= decisionv1.Outcome_WITHDRAWN; s++ {
		m.statuses = append(m.statuses, metric.WithAttributeSet(attribute.NewSet(attribute.String("status", s.String()))))
	}
	return &m, nil
}

func (m *metrics) decided(ctx context.Context, reason pdp.Reason, took time.Duration) {
	m.decisions.Add(ctx, 1, m.reasons[reason])
	m.duration.Record(ctx, took.Seconds())
}

func (m *metrics) ended(ctx context.Context, status decisionv1.Outcome_Status) {
	m.outcomes.Add(ctx, 1, m.statuses[status])
}
