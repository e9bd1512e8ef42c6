package mcp

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// An outcome is how an exchange with the agent ended.
type outcome uint8

const (
	outcomeAnswered outcome = iota // by the server
	outcomeDenied
	outcomeRefused // malformed, or not for this door
	outcomeFailed  // the server was no help
	outcomeCut
	outcomeCancelled
)

var outcomeWords = [...]string{"answered", "denied", "refused", "failed", "cut", "cancelled"}

// metrics counts what passes the door.
type metrics struct {
	exchanges metric.Int64Counter
	duration  metric.Float64Histogram
	streams   metric.Int64UpDownCounter
	withheld  metric.Int64Counter
	unchecked metric.Int64Counter
	outcomes  [len(outcomeWords)]metric.MeasurementOption
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	var m metrics
	var errs [5]error
	m.exchanges, errs[0] = meter.Int64Counter("reeve.mcp.exchanges",
		metric.WithUnit("{exchange}"), metric.WithDescription("HTTP exchanges with the agent, by how they ended."))
	m.duration, errs[1] = meter.Float64Histogram("reeve.mcp.exchange.duration",
		metric.WithUnit("s"), metric.WithDescription("Time from a message of the agent to the end of its answer."))
	m.streams, errs[2] = meter.Int64UpDownCounter("reeve.mcp.streams",
		metric.WithUnit("{stream}"), metric.WithDescription("Streams that are open to the agent."))
	m.withheld, errs[3] = meter.Int64Counter("reeve.mcp.withheld",
		metric.WithUnit("{message}"), metric.WithDescription("Messages of servers that were not passed on to the agent."))
	m.unchecked, errs[4] = meter.Int64Counter("reeve.mcp.unchecked",
		metric.WithUnit("{call}"), metric.WithDescription("Calls denied because the server could not be asked for its list of tools."))
	for i, word := range outcomeWords {
		m.outcomes[i] = metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", word)))
	}
	return &m, errors.Join(errs[:]...)
}

func (m *metrics) ended(ctx context.Context, o outcome, took time.Duration) {
	m.exchanges.Add(ctx, 1, m.outcomes[o])
	m.duration.Record(ctx, took.Seconds(), m.outcomes[o])
}
