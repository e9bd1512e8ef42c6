package sidecar

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/reeve-authz/reeve/sidecar/internal/audit"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/internal/spool"
	"github.com/reeve-authz/reeve/sidecar/internal/xds"
)

// A boot is what must not outlive the machine's clocks: an instance with its
// records and what it may act on. A process has one after another.
type boot struct {
	instance string
	replica  *replica.Replica
	spool    *spool.Spool
	earlier  []*spool.Spool
	mcp      net.Listener
	meter    *bootMeter
	// recorder and subscriber are nil until there is an identity.
	recorder   atomic.Pointer[audit.Recorder]
	subscriber atomic.Pointer[xds.Client]
}

// newBoot binds the agent's listener at an address and begins an instance that
// holds nothing. The caller closes it.
func (s *Sidecar) newBoot(address string) (_ *boot, err error) {
	b := &boot{
		instance: newInstance(),
		replica:  replica.New(s.clock),
		meter:    &bootMeter{Meter: s.telemetry.Meters.Meter(meterName)},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.mcp, err = listen("mcp-listen", address); err != nil {
		return nil, err
	}
	b.spool, b.earlier, err = spool.Open(spool.Config{
		Dir: filepath.Join(s.cfg.StateDir, "spool"), Instance: b.instance, MaxBytes: s.cfg.SpoolMaxBytes,
	}, s.log)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// again is the address at which the agent looks for the next boot.
func (b *boot) again() string {
	if a := b.mcp.Addr(); a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return b.mcp.Addr().String()
}

// close gives back what the boot took. What has ended already is closed again
// without effect.
func (b *boot) close() error {
	errs := []error{b.meter.end()}
	if b.mcp != nil {
		if err := b.mcp.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for _, sp := range append(b.earlier, b.spool) {
		if sp != nil {
			errs = append(errs, sp.Close())
		}
	}
	return errors.Join(errs...)
}

// serveBoots serves until serving ends: one boot, and another whenever the
// machine's clocks show that what was begun must not go on.
func (s *Sidecar) serveBoots(serving, background context.Context) error {
	for {
		b := s.boot.Load()
		why := s.serveBoot(serving, background, b)
		if !errors.Is(why, replica.ErrNewBoot) {
			return why
		}
		if serving.Err() != nil {
			return nil
		}
		if err := b.close(); err != nil {
			return err
		}
		next, err := s.newBoot(b.again())
		if err != nil {
			return fmt.Errorf("begin again: %w", err)
		}
		s.boot.Store(next)
		s.log.WarnContext(background, "begun again as after a start of the machine", slog.Any("error", why),
			slog.String("instance", next.instance), slog.String("before", b.instance))
	}
}

// serveBoot serves the agent until serving ends, or the boot.
func (s *Sidecar) serveBoot(serving, background context.Context, b *boot) error {
	background, stop := context.WithCancel(background)
	defer stop()
	rooms, background := errgroup.WithContext(background)
	serving, cancel := context.WithCancel(serving)
	defer cancel()
	defer context.AfterFunc(background, cancel)()
	err := s.serve(serving, background, rooms, b)
	stop()
	return errors.Join(err, rooms.Wait())
}

func newInstance() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // documented never to fail
	return hex.EncodeToString(id)
}
