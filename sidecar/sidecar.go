// Package sidecar joins the rooms of the process that stands beside one agent:
// it decides the agent's calls, forwards and records them.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"github.com/reeve-authz/reeve/sidecar/identity"
	"github.com/reeve-authz/reeve/sidecar/internal/enroll"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/ops"
)

// meterName is that of the process's instruments.
const meterName = "github.com/reeve-authz/reeve/sidecar"

// opsDrain is how long a scrape in progress may go on at the end.
const opsDrain = time.Second

// Telemetry is where a sidecar tells what it does. All fields are needed.
type Telemetry struct {
	Log    *slog.Logger
	Meters metric.MeterProvider
	// Metrics serves what Meters measures.
	Metrics http.Handler
}

// Sidecar is a sidecar that has its listeners and its state directory, and
// serves nothing until Run.
type Sidecar struct {
	cfg       Config
	telemetry Telemetry
	log       *slog.Logger

	lock     *os.File
	source   *identity.Source
	enroller *enroll.Client
	clock    replica.Clock
	quota    *quota.Quota
	ops      net.Listener // nil without
	endpoint Endpoint
	boot     atomic.Pointer[boot] // nil before the first
}

// New takes the state directory, binds the listeners and leaves the endpoint for
// the agent. An error wraps ErrConfig if a changed configuration mends it. After
// New, Run must be called: it alone releases what New took.
func New(cfg Config, telemetry Telemetry) (*Sidecar, error) {
	clock, err := replica.BootClock()
	if err != nil {
		return nil, err
	}
	return newSidecar(cfg, telemetry, clock)
}

func newSidecar(cfg Config, telemetry Telemetry, clock replica.Clock) (_ *Sidecar, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Sidecar{cfg: cfg, telemetry: telemetry, log: telemetry.Log, source: identity.NewSource(), clock: clock}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.lock, err = takeDir(cfg.StateDir); err != nil {
		return nil, err
	}
	if s.enroller, err = enroll.New(s.enrollConfig(), s.source, s.log); err != nil {
		return nil, err
	}
	s.quota, err = quota.Open(filepath.Join(cfg.StateDir, quotaName), s.now, s.log, telemetry.Meters.Meter(meterName))
	if err != nil {
		return nil, err
	}
	b, err := s.newBoot(cfg.MCPListen)
	if err != nil {
		return nil, err
	}
	s.boot.Store(b)
	if cfg.OpsListen != "" {
		if s.ops, err = listen("ops-listen", cfg.OpsListen); err != nil {
			return nil, err
		}
	}
	if s.endpoint, err = newEndpoint(cfg.StateDir, b.mcp.Addr()); err != nil {
		return nil, err
	}
	return s, nil
}

// Endpoint is how the agent reaches this sidecar.
func (s *Sidecar) Endpoint() Endpoint { return s.endpoint }

// OpsAddr is where health, readiness and metrics are served; nil if they are
// not.
func (s *Sidecar) OpsAddr() net.Addr {
	if s.ops == nil {
		return nil
	}
	return s.ops.Addr()
}

// Run serves until ctx ends, lets calls in progress finish for up to the drain
// timeout, and releases everything. It returns nil after a clean end. When the
// machine's clocks show that it was copied, or that one of them was set, it cuts
// every call and begins again as another instance, with nothing to act on until it
// is heard from the control plane; the agent's endpoint stays what it is.
func (s *Sidecar) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.release()) }()

	// What calls need while they drain outlives ctx.
	background, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	rooms, background := errgroup.WithContext(background)
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	// If anything in the background fails, serving ends too.
	defer context.AfterFunc(background, cancel)()

	if s.ops != nil {
		rooms.Go(func() error {
			return ops.Serve(background, s.ops, ops.Handler(s.checks(), s.telemetry.Metrics), opsDrain, s.log)
		})
	}
	rooms.Go(func() error { return s.enroller.Run(background) })
	rooms.Go(func() error {
		defer stop(errServed)
		return s.serveBoots(serving, background)
	})
	return rooms.Wait()
}

// errServed ends the background when there is nothing left to serve.
var errServed = errors.New("served")

// Enroll enrols the state directory's sidecar with cfg's join token, unless it
// is enrolled already, and returns its agent's resource name.
func Enroll(ctx context.Context, cfg Config, log *slog.Logger) (agent string, err error) {
	if err := cfg.validateAddresses(); err != nil {
		return "", err
	}
	lock, err := takeDir(cfg.StateDir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	source := identity.NewSource()
	s := &Sidecar{cfg: cfg}
	client, err := enroll.New(s.enrollConfig(), source, log)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	select {
	case err = <-ended:
		cancel()
		if err == nil {
			err = fmt.Errorf("enrol at %s: %w", strings.Join(cfg.EnrollAddress, ", "), ctx.Err())
		}
		return "", err
	case <-source.Ready():
		cancel()
		if err := <-ended; err != nil {
			return "", err
		}
	}
	peer, err := source.Peer()
	return peer.Name, err
}

func (s *Sidecar) enrollConfig() enroll.Config {
	return enroll.Config{
		Dir:       filepath.Join(s.cfg.StateDir, "identity"),
		Addresses: s.cfg.EnrollAddress,
		JoinToken: s.cfg.JoinToken,
		CADigest:  s.cfg.CADigest,
	}
}

// checks are what the sidecar needs before it is ready.
func (s *Sidecar) checks() []ops.Check {
	return []ops.Check{
		{Name: "identity", Ready: func(context.Context) error {
			_, err := s.source.GetX509SVID()
			return err
		}},
		{Name: "records", Ready: func(ctx context.Context) error {
			if r := s.boot.Load().recorder.Load(); r != nil {
				return r.Check(ctx)
			}
			return errors.New("nothing is served before there is an identity")
		}},
		{Name: "fresh", Ready: func(context.Context) error {
			b := s.boot.Load()
			if b.replica.View().Live() {
				return nil
			}
			return s.staleness(b)
		}},
	}
}

// staleness says that every call is denied, and what is known of the reason.
func (s *Sidecar) staleness(b *boot) error {
	err := fmt.Errorf("has not heard from the control plane (%s) within its freshness bound: every call is denied", strings.Join(s.cfg.ControlPlane, ", "))
	if c := b.subscriber.Load(); c != nil {
		if last := c.Status().Err; last != nil {
			return fmt.Errorf("%w; last: %w", err, last)
		}
	}
	return err
}

// release gives back what New took. What Run has ended already is closed again
// without effect.
func (s *Sidecar) release() error {
	var errs []error
	if s.ops != nil {
		if err := s.ops.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if b := s.boot.Load(); b != nil {
		errs = append(errs, b.close())
	}
	if s.quota != nil {
		errs = append(errs, s.quota.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// takeDir makes a directory that only this user can enter and locks it for this
// process, until the file that it returns is closed.
func takeDir(dir string) (*os.File, error) {
	if dir == "" {
		return nil, fmt.Errorf("%w: state-dir is empty", ErrConfig)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: state-dir: %w", ErrConfig, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: state-dir: %w", ErrConfig, err)
	}
	if err := lockFile(lock); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: state-dir %s is used by another sidecar: each needs its own", ErrConfig, dir), lock.Close())
	}
	return lock, nil
}
