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

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/credentials"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	"github.com/reeve-authz/reeve/controlplane/internal/ca"
	"github.com/reeve-authz/reeve/controlplane/internal/replicas"
	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/controlplane/internal/xds"
	"github.com/reeve-authz/reeve/sidecar/identity"
	"github.com/reeve-authz/reeve/sidecar/ops"
)

const (
	// opsDrain is how long a scrape in progress may go on at the end.
	opsDrain = time.Second
	// departWithin is how long the store may take to write down the end.
	departWithin = 2 * time.Second
)

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
	replicas  *replicas.Replicas
	publisher *xds.Server
	doors     []*door
	closing   chan struct{}  // closed when the doors close
	streams   sync.WaitGroup // handlers of streams

	ops net.Listener // nil without
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
		source:    source,
		snapshots: snapshot.New(telemetry.Log),
		closing:   make(chan struct{}),
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
	if err = c.listen(ctx); err != nil {
		return nil, err
	}
	if err = c.announce(ctx); err != nil {
		return nil, err
	}
	if err = c.build(); err != nil {
		return nil, err
	}
	if err = cfg.bootstrap(ctx, c.store, c.authority, c.address(adminDoor), c.log); err != nil {
		return nil, err
	}
	return c, nil
}

// announce writes down that this process may grant freshness, before it can.
func (c *ControlPlane) announce(ctx context.Context) error {
	name, address, err := c.replica()
	if err != nil {
		return err
	}
	c.rollout = rollout.New(rollout.Config{Bound: c.cfg.FreshnessBound, Replica: name})
	c.replicas, err = replicas.New(replicas.Config{
		Store: c.store, Rollout: c.rollout, Bound: c.cfg.FreshnessBound, Name: name, Address: address,
		SidecarAddress: c.address(sidecarDoor), EnrollAddress: c.address(enrollDoor),
		Dial: func(address string) (replicas.Peer, error) {
			return replicas.Dial(address, credentials.NewTLS(identity.ClientTLS(c.source, c.authority.TrustDomain())))
		},
		Log: c.log, Meter: c.meter(),
	})
	if err != nil {
		return err
	}
	return c.replicas.Announce(ctx)
}

// replica is the process's name among the others, and the address at which they
// reach it; none if there can be no others.
func (c *ControlPlane) replica() (name, address string, err error) {
	name = c.cfg.Replica
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return "", "", err
		}
	}
	if len(c.doors) <= peerDoor {
		return name, "", nil
	}
	listener := c.doors[peerDoor].listener.Addr().String()
	if c.cfg.Replica == "" {
		_, port, err := net.SplitHostPort(listener)
		if err != nil {
			return "", "", err
		}
		name += "-" + port
	}
	if c.cfg.PeerAdvertise != "" {
		return name, c.cfg.PeerAdvertise, nil
	}
	return name, c.cfg.advertisedAddress(listener), nil
}

func (c *ControlPlane) meter() metric.Meter {
	return c.telemetry.Meters.Meter("github.com/reeve-authz/reeve/controlplane")
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
	rooms.Go(func() error { return ended(background, c.replicas.Run(background)) })
	rooms.Go(func() error { return ended(background, c.sweep(background)) })
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
		return nil
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
	if c.replicas != nil {
		c.depart()
	}
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	return errors.Join(errs...)
}

// depart says that this process serves no more, so that nobody has to find out.
func (c *ControlPlane) depart() {
	ctx, cancel := context.WithTimeout(context.Background(), departWithin) //nolint:forbidigo // whoever called has ended
	defer cancel()
	if err := c.replicas.End(ctx); err != nil {
		c.log.WarnContext(ctx, "end not written down; the others wait until they find out", slog.Any("error", err))
	}
}

func closeListener(l net.Listener) error {
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
