package audit

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/metric"

	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

// Ingest implements ingestv1.IngestServer over a log.
type Ingest struct {
	ingestv1.UnimplementedIngestServer
}

// NewIngest returns the service. agentOf tells the agent's resource name from
// the verified certificate of the peer.
func NewIngest(l *Log, agentOf func(context.Context) (string, error), log *slog.Logger, meter metric.Meter) (*Ingest, error) {
	return &Ingest{}, nil
}
