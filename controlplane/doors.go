package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/admin"
	"github.com/reeve-authz/reeve/controlplane/internal/admission"
	"github.com/reeve-authz/reeve/controlplane/internal/audit"
	"github.com/reeve-authz/reeve/controlplane/internal/claims"
	"github.com/reeve-authz/reeve/controlplane/internal/enroll"
	"github.com/reeve-authz/reeve/controlplane/internal/observations"
	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
	"github.com/reeve-authz/reeve/controlplane/internal/xds"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
	peerv1 "github.com/reeve-authz/reeve/gen/reeve/peer/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// Limits of every door.
const (
	maxMessage       = 4 << 20
	maxEnrollMessage = 16 << 10
	handshakeTimeout = 10 * time.Second
	maxHeaderBytes   = 16 << 10
	maxStreams       = 1000 // of one connection
	keepaliveEvery   = 30 * time.Second
	keepaliveTimeout = 60 * time.Second
	enrollIdle       = time.Minute // strangers' connections are not kept
	sidecarDrain     = 500 * time.Millisecond
)

// The doors, in the order in which they are bound.
const (
	adminDoor = iota
	sidecarDoor
	enrollDoor
	peerDoor // with other control planes only
)

// door is a listener and what is served on it.
type door struct {
	name     string
	listener net.Listener
	server   *grpc.Server
	// drain is how long calls in progress may go on at the end.
	drain time.Duration
}

// serve serves until ctx ends, then lets calls in progress finish.
func (d *door) serve(ctx context.Context) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		hurry := time.AfterFunc(d.drain, d.server.Stop)
		defer hurry.Stop()
		d.server.GracefulStop()
	})
	err := d.server.Serve(d.listener)
	if stop() {
		d.server.Stop()
		return fmt.Errorf("%s door: %w", d.name, err)
	}
	<-ended
	return nil
}

// A bind says where a door is.
type bind struct {
	name, address string
	drain         time.Duration
}

// listen binds every door.
func (c *ControlPlane) listen(ctx context.Context) error {
	binds := []bind{
		adminDoor: {"admin", c.cfg.AdminListen, c.cfg.DrainTimeout},
		// Sidecars' streams never end by themselves, and sidecars are built to
		// lose them: what they sent and did not hear of, they send again.
		sidecarDoor: {"sidecar", c.cfg.SidecarListen, min(c.cfg.DrainTimeout, sidecarDrain)},
		enrollDoor:  {"enroll", c.cfg.EnrollListen, c.cfg.DrainTimeout},
	}
	if len(c.cfg.EtcdEndpoints) > 0 {
		binds = append(binds, bind{"peer", c.cfg.PeerListen, min(c.cfg.DrainTimeout, sidecarDrain)})
	}
	for _, d := range binds {
		listener, err := listenTCP(ctx, d.address)
		if err != nil {
			return fmt.Errorf("%s-listen: %w", d.name, err)
		}
		c.doors = append(c.doors, &door{name: d.name, listener: listener, drain: d.drain})
	}
	if c.cfg.OpsListen != "" {
		var err error
		if c.ops, err = listenTCP(ctx, c.cfg.OpsListen); err != nil {
			return fmt.Errorf("ops-listen: %w", err)
		}
	}
	return nil
}

// build builds what is served at every door.
func (c *ControlPlane) build() (err error) {
	if c.doors[adminDoor].server, err = c.adminServer(); err != nil {
		return err
	}
	if c.doors[sidecarDoor].server, err = c.sidecarServer(); err != nil {
		return err
	}
	c.doors[enrollDoor].server = c.enrollServer()
	if len(c.doors) > peerDoor {
		c.doors[peerDoor].server = c.peerServer()
	}
	return nil
}

// address is a door's address as others reach it.
func (c *ControlPlane) address(door int) string {
	return c.cfg.advertisedAddress(c.doors[door].listener.Addr().String())
}

// adminServer serves administrators, whom the guard knows by certificate.
func (c *ControlPlane) adminServer() (*grpc.Server, error) {
	administration, err := admin.New(admin.Config{
		Store: c.store,
		Newest: func() (admin.View, <-chan struct{}) {
			s, stale := c.snapshots.Newest()
			return s, stale
		},
		Fleet:     c.replicas,
		Authority: c.authority,
		Advertised: func(ctx context.Context) admin.Advertised {
			sidecars, enrol := c.replicas.Addresses(ctx)
			return admin.Advertised{
				TrustDomain: c.authority.TrustDomain().Name(), SidecarAddress: sidecars, EnrollAddress: enrol,
			}
		},
		Now: time.Now,
		Log: c.log,
	})
	if err != nil {
		return nil, err
	}
	options := append(c.options(identity.ServerTLS(c.source, c.admit(identity.Admin))), administration.ServerOptions()...)
	s := grpc.NewServer(options...)
	administration.Register(s)
	adminv1.RegisterDecisionsServer(s, audit.NewDecisions(c.audit, c.log))
	return s, nil
}

// sidecarServer serves agents' sidecars, each what is its own agent's.
func (c *ControlPlane) sidecarServer() (*grpc.Server, error) {
	meter := c.meter()
	publisher, err := xds.New(xds.Config{
		Snapshots: c.snapshots,
		Rollout:   c.rollout,
		Head:      c.replicas.Head,
		Log:       c.log,
		Meter:     meter,
	})
	if err != nil {
		return nil, err
	}
	ingest, err := audit.NewIngest(c.audit, agentOf, c.log, meter)
	if err != nil {
		return nil, err
	}
	claiming, err := claims.NewServer(c.store, time.Now, c.log, meter)
	if err != nil {
		return nil, err
	}
	seen, err := observations.NewServer(observations.Config{
		Store: c.store,
		Admit: c.admit(identity.Agent),
		Reaches: func(agent, server string) bool {
			newest, _ := c.snapshots.Newest()
			view := newest.View(agent)
			return view != nil && view.Find(snapshot.Servers, server) != nil
		},
		Now: time.Now,
		Log: c.log,
	})
	if err != nil {
		return nil, err
	}
	c.publisher = publisher
	s := grpc.NewServer(append(c.options(identity.ServerTLS(c.source, c.admit(identity.Agent))), xds.ServerOptions()...)...)
	publisher.Register(s)
	ingestv1.RegisterIngestServer(s, ingest)
	grantv1.RegisterClaimsServer(s, claiming)
	grantv1.RegisterObservationsServer(s, seen)
	return s, nil
}

// enrollServer serves whoever has a join token or an enrolled key.
func (c *ControlPlane) enrollServer() *grpc.Server {
	s := grpc.NewServer(append(c.options(identity.EnrollServerTLS(c.source)),
		grpc.MaxRecvMsgSize(maxEnrollMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: enrollIdle, Time: keepaliveEvery, Timeout: keepaliveTimeout,
		}))...)
	enrollv1.RegisterEnrollmentServer(s, enroll.NewServer(c.store, c.authority, c.log))
	return s
}

// peerServer serves the other control planes of the store, and nobody else.
func (c *ControlPlane) peerServer() *grpc.Server {
	s := grpc.NewServer(c.options(identity.ServerTLS(c.source, c.admit(identity.ControlPlane)))...)
	peerv1.RegisterPeersServer(s, c.replicas.Server())
	return s
}

// admit refuses, in the handshake, whoever is not of the kind that a door is for
// or may not be served.
func (c *ControlPlane) admit(kind identity.PeerKind) func(identity.Peer) error {
	return func(p identity.Peer) error {
		if p.Kind != kind {
			return fmt.Errorf("%s is no %s", p.ID, kind)
		}
		newest, _ := c.snapshots.Newest()
		return newest.Admit(p)
	}
}

// agentOf is the agent whom a call's certificate names.
func agentOf(ctx context.Context) (string, error) {
	p, err := identity.PeerFromContext(ctx)
	return p.Name, err
}

// options are what every door's server has: its TLS, limits, and keepalive.
func (c *ControlPlane) options(config *tls.Config) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(admission.Limit(credentials.NewTLS(config), runtime.GOMAXPROCS(0))),
		grpc.ChainStreamInterceptor(c.endWithDoors),
		grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithMeterProvider(c.telemetry.Meters))),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveEvery, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveEvery / 3, PermitWithoutStream: true}),
	}
}

// endWithDoors ends a stream when the doors close. Streams never end by
// themselves: a door would wait for them until the drain timeout, and meanwhile
// sidecars, told to make their calls elsewhere, would go stale. A handler that is
// left behind ends at its next Recv or Send; Run waits for it.
func (c *ControlPlane) endWithDoors(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if info.FullMethod == discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName {
		// There are thousands, and the publisher ends them itself.
		c.streams.Add(1)
		defer c.streams.Done()
		return handle(srv, stream)
	}
	ended := make(chan error, 1)
	c.streams.Go(func() { ended <- handle(srv, stream) })
	select {
	case err := <-ended:
		return err
	case <-c.closing:
		return status.Error(codes.Unavailable, "control plane is shutting down")
	}
}

func listenTCP(ctx context.Context, address string) (net.Listener, error) {
	// TCP's own keepalive stays off: connections opened together probe
	// together, and a lost probe would end them. gRPC's does the work.
	config := net.ListenConfig{KeepAlive: -1}
	return config.Listen(ctx, "tcp", address)
}
