package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/spool"
)

const (
	// batchRecords and batchBytes bound one batch, well within what
	// ingest.proto and gRPC take.
	batchRecords = 1024
	batchBytes   = 512 << 10
	// linger is how long a first record waits for others to go with it: to the
	// log each batch is a write to the disk.
	linger = 10 * time.Millisecond
	// answerWithin is how long the control plane may take to say that a batch is
	// stored. It waits for a quorum of disks, which takes milliseconds.
	answerWithin = 20 * time.Second
	// firstStuck and longestStuck bound how long records of this boot may wait for
	// a replica before another one is asked for: twice as long each time, for if
	// all fail it is the log that does.
	firstStuck   = 30 * time.Second
	longestStuck = 16 * time.Minute
	// flushTimeout is how long Run goes on with what is left when it is to end.
	flushTimeout = 3 * time.Second
)

// Pauses before another attempt: doubling from the first to the longest, and
// the long one after an answer that the same attempt will get again until a
// person has done something about it.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	refusedPause = time.Minute
)

// errForked says that another process records under the same instance id.
var errForked = errors.New("the control plane has records of this instance that were not made here")

// errLate says that a batch was not answered in time.
var errLate = fmt.Errorf("no answer within %s", answerWithin)

// An Uploader sends the records of spools to the control plane, at least once
// and in order, and tells the spools what is stored there.
type Uploader struct {
	client  ingestv1.IngestClient
	current *spool.Spool
	earlier []*spool.Spool
	log     *slog.Logger
	stuck   func(cause error)
	// abandoned is closed, by abandon, when what is left is for the next boot.
	abandoned chan struct{}
	abandon   func()
}

// Abandon has Run end at once when it is to end, and not send what is left. It may
// be called at any time, and more than once.
func (u *Uploader) Abandon() { u.abandon() }

// OnStuck has stuck called, and again after a while, when the control plane's
// replica has not stored records of this boot for so long that another one should
// be asked. It must not block. To be called before Run.
func (u *Uploader) OnStuck(stuck func(cause error)) { u.stuck = stuck }

// NewUploader returns an uploader of what [spool.Open] returned. The caller
// closes the spools after Run has returned; those of earlier boots are closed
// by Run as they are done with, which deletes them.
func NewUploader(client ingestv1.IngestClient, current *spool.Spool, earlier []*spool.Spool, log *slog.Logger, meter metric.Meter) (*Uploader, error) {
	u := &Uploader{
		client: client, current: current, earlier: earlier, log: log,
		stuck: func(error) {}, abandoned: make(chan struct{}),
	}
	u.abandon = sync.OnceFunc(func() { close(u.abandoned) })
	_, err := meter.Int64ObservableGauge("reeve.audit.queue",
		metric.WithDescription("Records that the control plane has not acknowledged."),
		metric.WithUnit("{record}"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(u.queue())
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("make instrument: %w", err)
	}
	return u, nil
}

// queue returns how many records are not acknowledged.
func (u *Uploader) queue() int64 {
	n := u.current.Last() - u.current.Acknowledged()
	for _, s := range u.earlier {
		n += s.Last() - s.Acknowledged()
	}
	return n
}

// Run uploads until ctx ends, and then for a moment more to send what is left.
// Until then it tries again whatever goes wrong.
func (u *Uploader) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var workers sync.WaitGroup
	workers.Go(func() { u.upload(work, u.current, ctx.Done()) })
	// An earlier boot's spool gets no further records, so it ends when it is
	// empty.
	over := make(chan struct{})
	close(over)
	for _, s := range u.earlier {
		workers.Go(func() {
			if u.upload(work, s, over) {
				u.finish(work, s)
			}
		})
	}
	done := make(chan struct{})
	go func() { // Ends with the workers.
		workers.Wait()
		close(done)
	}()
	<-ctx.Done()
	flush := time.NewTimer(flushTimeout)
	defer flush.Stop()
	select {
	case <-done:
	case <-u.abandoned:
	case <-flush.C:
		u.log.WarnContext(work, "records left for the next start", slog.Int64("records", u.queue()))
	}
	cancel()
	<-done
	return nil
}

// finish closes an earlier boot's spool that is uploaded.
func (u *Uploader) finish(ctx context.Context, s *spool.Spool) {
	if err := s.Close(); err != nil {
		u.log.ErrorContext(ctx, "uploaded spool not deleted", slog.String("instance", s.Instance()), slog.Any("error", err))
		return
	}
	u.log.InfoContext(ctx, "earlier records uploaded", slog.String("instance", s.Instance()), slog.Int64("records", s.Last()))
}

// upload uploads s, trying again, until over is closed and nothing is left,
// which it reports, or ctx ends.
func (u *Uploader) upload(ctx context.Context, s *spool.Spool, over <-chan struct{}) bool {
	pause, failing := firstPause, false
	patience := newPatience()
	for {
		acknowledged := s.Acknowledged()
		err := u.push(ctx, s, over)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if s.Acknowledged() > acknowledged {
			pause, failing, patience = firstPause, false, newPatience()
		}
		wait := pause/2 + rand.N(pause/2) //nolint:gosec // Jitter needs no secrecy.
		pause = min(2*pause, longestPause)
		if refused(err) {
			wait = refusedPause
			u.log.ErrorContext(ctx, "records refused by the control plane: they stay here, and when the spool is full calls are denied",
				slog.String("instance", s.Instance()), slog.Any("error", err))
		} else {
			if !failing {
				failing = true
				u.log.WarnContext(ctx, "records not uploaded", slog.String("instance", s.Instance()), slog.Any("error", err))
			}
			if s == u.current && patience.over() {
				u.stuck(err)
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
	}
}

// A patience says when there have been failures for too long.
type patience struct {
	since time.Time // of the first failure; zero before any
	wait  time.Duration
}

func newPatience() patience { return patience{wait: spread(firstStuck)} }

// over takes note of a failure and reports whether the patience is over, and if
// so begins again with twice of it.
func (p *patience) over() bool {
	if p.since.IsZero() {
		p.since = time.Now()
	}
	if time.Since(p.since) < p.wait {
		return false
	}
	p.since, p.wait = time.Now(), min(2*p.wait, longestStuck)
	return true
}

// spread returns between d and twice of it, so that a fleet does not act in step.
func spread(d time.Duration) time.Duration {
	return d + rand.N(d) //nolint:gosec // Jitter needs no secrecy.
}

// refused reports whether an error will not go away by itself.
func refused(err error) bool {
	if errors.Is(err, spool.ErrDamaged) || errors.Is(err, spool.ErrGone) || errors.Is(err, errForked) {
		return true
	}
	refusals := []codes.Code{codes.InvalidArgument, codes.PermissionDenied, codes.FailedPrecondition, codes.Unimplemented}
	return slices.Contains(refusals, status.Code(err))
}

// push uploads s over one stream until over is closed and nothing is left.
// One batch is under way at a time: while it is, the next one gathers.
func (u *Uploader) push(ctx context.Context, s *spool.Spool, over <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := u.client.Push(ctx) // waits while there is no connection
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	late := time.AfterFunc(answerWithin, func() { cancel(errLate) })
	defer late.Stop()
	next := int64(1)
	var records [][]byte // None at first: that asks what is stored.
	for {
		late.Reset(answerWithin)
		if err := stream.Send(&ingestv1.PushRequest{Instance: s.Instance(), FirstSequence: next, Records: records}); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("send batch: %w", err)
		}
		answer, err := stream.Recv()
		if errors.Is(context.Cause(ctx), errLate) {
			err = errLate
		}
		if err != nil {
			return fmt.Errorf("push records from %d: %w", next, err)
		}
		late.Stop()
		stored := answer.GetStoredSequence()
		if last := s.Last(); stored > last {
			if s == u.current {
				return fmt.Errorf("%w: %d records of %d", errForked, stored, last)
			}
			stored = last // A loss of power took the end of that boot's spool.
		}
		if err := s.Acknowledge(stored); err != nil {
			return err
		}
		next = stored + 1
		if records, err = await(ctx, s, next, over); err != nil || len(records) == 0 {
			return err
		}
	}
}

// await returns the records to send next, and none once over is closed and
// nothing is left.
func await(ctx context.Context, s *spool.Spool, next int64, over <-chan struct{}) ([][]byte, error) {
	for last := false; ; {
		records, err := s.Read(next, batchRecords, batchBytes)
		if err != nil || len(records) > 0 || last {
			return records, err
		}
		select {
		case <-s.Appended():
		case <-over:
			last = true
			continue
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		select {
		case <-time.After(linger):
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
