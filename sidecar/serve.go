package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/identity"
	"github.com/reeve-authz/reeve/sidecar/internal/audit"
	"github.com/reeve-authz/reeve/sidecar/internal/link"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
	"github.com/reeve-authz/reeve/sidecar/internal/observe"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio"
	"github.com/reeve-authz/reeve/sidecar/internal/xds"
)

// serve waits for an identity, then serves the agent until serving ends. What
// it starts in rooms runs until background ends, so that calls in progress can
// be enforced and recorded while they drain.
func (s *Sidecar) serve(serving, background context.Context, rooms *errgroup.Group, b *boot) error {
	select {
	case <-s.source.Ready():
	case <-serving.Done():
		return nil
	}
	peer, err := s.source.Peer()
	if err != nil {
		return err
	}
	recorder, err := audit.NewRecorder(b.spool, peer.Name, !s.cfg.AgentIsolated, s.log, b.meter)
	if err != nil {
		return err
	}
	b.recorder.Store(recorder)
	enforcer, err := pep.New(b.replica, recorder, s.log, b.meter)
	if err != nil {
		return err
	}
	conn, err := link.New(link.Config{
		Addresses: s.cfg.ControlPlane, Log: s.log, Meter: b.meter,
		Options: []grpc.DialOption{
			grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientTLS(s.source, peer.ID.TrustDomain()))),
		},
	})
	if err != nil {
		return fmt.Errorf("connect to the control plane: %w", err)
	}
	sessions, counting, err := s.limit(enforcer, conn, b, peer.Name)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	launcher, err := s.launch(background, rooms, b)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	observer := observe.New(grantv1.NewObservationsClient(conn), s.log)
	door, err := mcp.New(mcp.Config{
		Enforcer: enforcer, Views: b.replica, Claims: sessions, Observer: observer, Launcher: launcher, Clock: s.clock,
		Secret: s.endpoint.Secret, Log: s.log, Meter: b.meter,
	})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer door.Close(background)
	b.replica.ClaimsAs(claimantOf(peer))
	b.replica.OnCut(enforcer.Recheck)
	subscriber, err := xds.New(xds.Config{
		Conn: conn, Replicas: conn, Replica: b.replica, Clock: s.clock, Agent: peer.Name,
		Instance: b.instance, Version: s.cfg.Version, Log: s.log, Meter: b.meter,
	})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	uploader, err := audit.NewUploader(ingestv1.NewIngestClient(conn), b.spool, b.earlier, s.log, b.meter)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	b.subscriber.Store(subscriber)
	uploader.OnStuck(subscriber.Leave)
	// The enforcer cuts what is open when it ends, which may be before the rest.
	enforcing, cut := context.WithCancel(background)
	defer cut()
	rooms.Go(func() error {
		err := enforce(background, uploader, b.replica.Run, subscriber.Run, counting, observer.Run,
			func(ctx context.Context) error {
				defer context.AfterFunc(ctx, cut)()
				return enforcer.Run(enforcing)
			})
		return errors.Join(err, conn.Close())
	})

	s.log.InfoContext(serving, "serving", slog.String("agent", peer.Name), slog.String("instance", b.instance),
		slog.String("address", s.endpoint.URL), slog.String("secret_file", secretFile(s.cfg.StateDir)))
	server := mcp.NewServer(door)
	server.Handler = front(door, sessions, s.endpoint.Secret)
	return s.serveAgent(serving, background, b, server, cut)
}

// launch returns what starts servers, and runs it in rooms; nil if none are to
// be started.
func (s *Sidecar) launch(background context.Context, rooms *errgroup.Group, b *boot) (mcp.Launcher, error) {
	if !s.cfg.Launch {
		return nil, nil //nolint:nilnil // no launcher is a choice too
	}
	launcher, err := stdio.New(stdio.Config{
		Snapshot: func() *grant.Snapshot { return b.replica.View().Snapshot },
		User:     s.cfg.LaunchUser, Log: s.log, Meter: b.meter,
	})
	if err != nil {
		return nil, err
	}
	rooms.Go(func() error { return launcher.Run(background) })
	return launcher, nil
}

// cutWithin is how long an agent has to take the answer to a call that was cut.
const cutWithin = 2 * time.Second

// shutDown waits until what server serves has ended, for up to patience, and
// reports whether it has.
func shutDown(ctx context.Context, server *http.Server, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return server.Shutdown(ctx) == nil
}

// enforce runs what keeps open calls within their authority until ctx ends or
// one of it fails. The uploads end last: ending the others makes records. After a
// failure what is left is for the next boot.
func enforce(ctx context.Context, uploader *audit.Uploader, runs ...func(context.Context) error) error {
	uploading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	uploaded := make(chan error, 1)
	go func() { uploaded <- uploader.Run(uploading) }()

	group, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		group.Go(func() error { return run(ctx) })
	}
	err := group.Wait()
	if err != nil {
		uploader.Abandon()
	}
	stop()
	return errors.Join(err, <-uploaded)
}

// serveAgent serves until serving ends, then lets calls in progress finish for
// up to the drain timeout. What goes on after that is cut: the agent is told and
// the outcome recorded before the connections are closed.
func (s *Sidecar) serveAgent(serving, background context.Context, b *boot, server *http.Server, cut func()) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(serving, func() {
		defer close(ended)
		patience := s.cfg.DrainTimeout
		if background.Err() != nil {
			patience = 0 // nothing is enforced any more
		}
		s.log.InfoContext(background, "draining", slog.Duration("at_most", patience))
		if shutDown(background, server, patience) {
			return
		}
		cut()
		if !shutDown(context.WithoutCancel(background), server, cutWithin) {
			_ = server.Close() // an agent that does not even take its answer
		}
	})
	err := server.Serve(b.mcp)
	if stop() {
		return fmt.Errorf("serve the agent: %w", errors.Join(err, server.Close()))
	}
	<-ended
	return nil
}
