package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

// Ingest implements ingestv1.IngestServer over a log.
type Ingest struct {
	ingestv1.UnimplementedIngestServer
	lanes   *lanes
	agentOf func(context.Context) (string, error)
	log     *slog.Logger
	metrics *metrics
}

// NewIngest returns the service. agentOf tells the agent's resource name from
// the verified certificate of the peer, and nothing else.
func NewIngest(l *journal.Log, agentOf func(context.Context) (string, error), log *slog.Logger, meter metric.Meter) (*Ingest, error) {
	m, err := newMetrics(meter)
	if err != nil {
		return nil, err
	}
	return &Ingest{
		lanes:   &lanes{log: l, of: make(map[source]*lane)},
		agentOf: agentOf, log: log, metrics: m,
	}, nil
}

// Push implements ingestv1.IngestServer.
func (g *Ingest) Push(stream grpc.BidiStreamingServer[ingestv1.PushRequest, ingestv1.PushResponse]) error {
	ctx := stream.Context()
	agent, err := g.agentOf(ctx)
	if err != nil {
		return statusOf(ctx, g.log, fmt.Errorf("%w: %w", errForeign, err))
	}
	var held *lane
	defer func() {
		if held != nil {
			g.lanes.leave(held)
		}
	}()
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := parseBatch(agent, req)
		if err != nil {
			return g.refuse(ctx, agent, req, err)
		}
		if held == nil || held.source != b.source {
			if held != nil {
				g.lanes.leave(held)
			}
			held = g.lanes.enter(b.source)
		}
		sequence, added, err := held.push(ctx, b)
		if err != nil {
			return g.refuse(ctx, agent, req, err)
		}
		g.metrics.stored(ctx, added, int64(len(b.encoded))-added)
		if err := stream.Send(&ingestv1.PushResponse{StoredSequence: sequence}); err != nil {
			return err
		}
	}
}

// refuse logs why a batch was not stored. All but a log that cannot be written
// and a batch that another replica has as well are signs that somebody meddled with records, or of
// a defect.
func (g *Ingest) refuse(ctx context.Context, agent string, req *ingestv1.PushRequest, cause error) error {
	g.metrics.refused(ctx)
	if ctx.Err() == nil && !errors.Is(cause, journal.ErrOffline) && !errors.Is(cause, journal.ErrRaced) {
		g.log.ErrorContext(ctx, "records refused",
			slog.String("agent", agent), slog.String("instance", req.GetInstance()),
			slog.Int64("first_sequence", req.GetFirstSequence()), slog.Any("error", cause))
	}
	return statusOf(ctx, g.log, cause)
}

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
