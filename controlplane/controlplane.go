// Package controlplane joins the rooms of the process that keeps grants and
// streams them to sidecars.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	"github.com/reeve-authz/reeve/controlplane/internal/ca"
	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/controlplane/internal/xds"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
	"github.com/reeve-authz/reeve/sidecar/ops"
)

// opsDrain is how long a scrape in progress may go on at the end.
const opsDrain = time.Second

// Telemetry is where a control plane tells what it does. All fields are needed.
type Telemetry struct {
	Log    *slog.Logger
	Meters metric.MeterProvider
	// Metrics serves what Meters measures.
	Metrics http.Handler
}

// ControlPlane is a control plane that has its store, its log and its
// listeners, and serves nothing until Run.
type ControlPlane struct {
	cfg       Config
	telemetry Telemetry
	log       *slog.Logger

	store     *store.Store
	audit     *journal.Log
	authority *ca.Authority
	source    *identity.Source
	snapshots *snapshot.Snapshots
	rollout   *rollout.Rollout
	publisher *xds.Server
	doors     []*door
	closing   chan struct{}  // closed when the doors close
	streams   sync.WaitGroup // handlers of streams

	incarnation string
	earlier     []*storev1.Presence
	ops         net.Listener // nil without
}

// New opens the store and the log, makes what the first start has to make, and
// binds the listeners. An error wraps ErrConfig if a changed configuration mends
// it. After New, Run must be called: it alone releases what New took.
func New(ctx context.Context, cfg Config, telemetry Telemetry) (_ *ControlPlane, err error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	source := identity.NewSource()
	records, err := cfg.records(source)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{
		cfg: cfg, telemetry: telemetry, log: telemetry.Log,
		source:      source,
		snapshots:   snapshot.New(telemetry.Log),
		closing:     make(chan struct{}),
		incarnation: uuid.NewString(),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.release())
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: data-dir: %w", ErrConfig, err)
	}
	if c.store, err = store.Open(ctx, cfg.store(), c.log); err != nil {
		return nil, err
	}
	if c.authority, err = cfg.authority(ctx, c.store, c.log); err != nil {
		return nil, err
	}
	if err = c.authority.IssueControlPlane(c.source, cfg.serverNames()); err != nil {
		return nil, err
	}
	if c.audit, err = journal.Open(ctx, records, c.log); err != nil {
		return nil, err
	}
	if err = c.announce(ctx); err != nil {
		return nil, err
	}
	if err = c.listen(ctx); err != nil {
		return nil, err
	}
	if err = cfg.bootstrap(ctx, c.store, c.authority, c.address(adminDoor), c.log); err != nil {
		return nil, err
	}
	return c, nil
}

// announce writes down that this process may grant freshness, before it can, and
// learns how long those may still be fresh whom an earlier process served.
func (c *ControlPlane) announce(ctx context.Context) error {
	var err error
	if _, c.earlier, err = c.store.Presences(ctx); err != nil {
		return err
	}
	c.rollout = rollout.New(rollout.Config{Bound: c.cfg.FreshnessBound})
	return c.store.PutPresence(ctx, &storev1.Presence{
		Incarnation: c.incarnation, CreateTime: timestamppb.Now(), Bound: durationpb.New(c.cfg.FreshnessBound),
	})
}

// forgetEarlier removes what earlier processes announced once nobody whom they
// served can be fresh any more.
func (c *ControlPlane) forgetEarlier(ctx context.Context) error {
	if len(c.earlier) == 0 {
		return nil
	}
	newest, _ := c.snapshots.Newest()
	if err := c.rollout.Await(ctx, newest.Revision(), nil); err != nil {
		return nil //nolint:nilerr // the process ends; the next one waits again
	}
	for _, p := range c.earlier {
		if err := c.store.EndPresence(ctx, p.GetIncarnation()); err != nil {
			return err
		}
		if err := c.store.DeletePresence(ctx, p.GetIncarnation()); err != nil {
			c.log.WarnContext(ctx, "presence of an earlier process not removed", slog.Any("error", err))
		}
	}
	return nil
}

// Run serves until ctx ends, lets calls in progress finish for up to the drain
// timeout, and releases everything. It returns nil after a clean end, and an
// error as soon as something fails that the rest cannot do without.
func (c *ControlPlane) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, c.release()) }()

	// What calls need while they drain outlives ctx.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	rooms, background := errgroup.WithContext(background)
	open, serving := errgroup.WithContext(ctx)

	if c.ops != nil {
		rooms.Go(func() error {
			return ops.Serve(background, c.ops, c.opsHandler(), opsDrain, c.log)
		})
	}
	rooms.Go(func() error { return c.store.Run(background) })
	rooms.Go(func() error { return ended(background, c.snapshots.Run(background, c.store)) })
	rooms.Go(func() error {
		return ended(background, c.authority.RunControlPlane(background, c.source, c.cfg.serverNames()))
	})

	open.Go(func() error {
		select {
		case <-c.snapshots.Ready():
		case <-serving.Done():
			return nil
		case <-background.Done():
			return context.Cause(background)
		}
		for _, d := range c.doors {
			open.Go(func() error { return d.serve(serving) })
			c.log.InfoContext(serving, "serving", slog.String("door", d.name), slog.String("address", d.listener.Addr().String()))
		}
		return c.forgetEarlier(serving)
	})
	open.Go(func() error { // a room that fails closes the doors
		select {
		case <-background.Done():
			return context.Cause(background)
		case <-serving.Done():
			return nil
		}
	})
	context.AfterFunc(serving, func() {
		c.publisher.Close()
		close(c.closing)
	})
	err = open.Wait() // serving has ended
	<-c.closing
	c.streams.Wait()
	stop()
	if failed := rooms.Wait(); failed != nil {
		return failed
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// ended drops the error of a room that ended because it was asked to.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// checks are what the control plane needs before it is ready.
func (c *ControlPlane) checks() []ops.Check {
	return []ops.Check{
		{Name: "store", Ready: func(context.Context) error {
			select {
			case <-c.snapshots.Ready():
				return nil
			default:
				return errors.New("the store is not loaded yet")
			}
		}},
		{Name: "records", Ready: c.audit.Check},
		{Name: "identity", Ready: func(context.Context) error {
			_, err := c.source.GetX509SVID()
			return err
		}},
	}
}

// release gives back what New took. What has been closed already is closed again
// without effect.
func (c *ControlPlane) release() error {
	var errs []error
	for _, d := range c.doors {
		errs = append(errs, closeListener(d.listener))
	}
	if c.ops != nil {
		errs = append(errs, closeListener(c.ops))
	}
	if c.audit != nil {
		errs = append(errs, c.audit.Close())
	}
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	return errors.Join(errs...)
}

func closeListener(l net.Listener) error {
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
