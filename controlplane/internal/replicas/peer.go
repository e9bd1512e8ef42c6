package replicas

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	peerv1 "github.com/reeve-authz/reeve/gen/reeve/peer/v1"
)

const (
	// dialEvery bounds how long a peer that came back is taken for gone.
	dialEvery = 2 * time.Second
	// A connection that nothing comes from is given up after both of these.
	keepaliveEvery   = 10 * time.Second // as often as peers let it be
	keepaliveTimeout = 5 * time.Second
	// maxListed is how many sidecars one message of a list carries, and
	// maxListedBytes where it ends before that: well below what a peer takes.
	maxListed      = 500
	maxListedBytes = 1 << 20
)

// Server serves what peers ask this process. To be registered where nobody but a
// control plane is let in.
func (r *Replicas) Server() peerv1.PeersServer { return &server{replicas: r} }

type server struct {
	peerv1.UnimplementedPeersServer
	replicas *Replicas
}

// meant returns nil if this process is or was of the incarnation.
func (s *server) meant(incarnation string) error {
	if !s.replicas.isOwn(incarnation) {
		return status.Error(codes.FailedPrecondition, "this control plane is another incarnation")
	}
	return nil
}

// AwaitHere implements peerv1.PeersServer.
func (s *server) AwaitHere(stream grpc.BidiStreamingServer[peerv1.AwaitHereRequest, peerv1.AwaitHereResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := s.meant(first.GetIncarnation()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	questions := make(chan rollout.Question)
	var awaiting sync.WaitGroup
	awaiting.Go(func() {
		defer cancel()
		// It fails with ctx, or when the stream has failed, as the receiving below
		// does then.
		_ = s.replicas.cfg.Rollout.AwaitHere(ctx, first.GetRevision(), questions, func(a rollout.Answer) error {
			return stream.Send(&peerv1.AwaitHereResponse{
				Progress: a.Progress, Left: toHolders(a.Left), Held: toSightings(a.Held), Standings: toStandings(a.Standings),
			})
		})
	})
	defer awaiting.Wait()
	defer cancel()
	for m := first; ; {
		q := rollout.Question{Elsewhere: fromHolders(m.GetElsewhere()), Held: fromSightings(m.GetHeld())}
		select {
		case questions <- q:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
		if m, err = stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil // the caller has heard enough
			}
			return err
		}
	}
}

// ListHere implements peerv1.PeersServer.
func (s *server) ListHere(r *peerv1.ListHereRequest, stream grpc.ServerStreamingServer[peerv1.ListHereResponse]) error {
	if err := s.meant(r.GetIncarnation()); err != nil {
		return err
	}
	here := s.replicas.here()
	all := here.Sidecars
	for first := true; first || len(all) > 0; first = false {
		n := 0
		for size := 0; n < min(len(all), maxListed) && size < maxListedBytes; n++ {
			size += proto.Size(all[n])
		}
		err := stream.Send(&peerv1.ListHereResponse{
			Sidecars: all[:n], Revision: here.Revision, StoreAge: durationpb.New(here.StoreAge),
		})
		if err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// Dial returns a connection to the control plane at an address, by the
// credentials, which let in nobody else. It does not wait for the connection.
func Dial(address string, creds credentials.TransportCredentials, options ...grpc.DialOption) (Peer, error) {
	conn, err := grpc.NewClient(address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(connectParams()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveEvery, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
	}, options...)...)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, peers: peerv1.NewPeersClient(conn)}, nil
}

func connectParams() grpc.ConnectParams {
	p := grpc.ConnectParams{MinConnectTimeout: dialEvery}
	p.Backoff.BaseDelay, p.Backoff.Multiplier, p.Backoff.Jitter, p.Backoff.MaxDelay = retryFirst, 1.6, 0.2, dialEvery
	return p
}

type client struct {
	conn  *grpc.ClientConn
	peers peerv1.PeersClient
}

// Close implements [Peer].
func (c *client) Close() error { return c.conn.Close() }

// AwaitHere implements [Peer].
func (c *client) AwaitHere(ctx context.Context, incarnation string, revision int64, questions <-chan rollout.Question, tell func(rollout.Answer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.peers.AwaitHere(ctx)
	if err != nil {
		cancel()
		return errorOf(err)
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	// What cannot be sent is what ends the receiving below, too.
	if err := stream.Send(&peerv1.AwaitHereRequest{Incarnation: incarnation, Revision: revision}); err == nil {
		asking.Go(func() { ask(ctx, stream, questions) })
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return errorOf(err)
		}
		a := rollout.Answer{
			Progress: m.GetProgress(), Left: fromHolders(m.GetLeft()), Held: fromSightings(m.GetHeld()),
			Standings: fromStandings(m.GetStandings()),
		}
		if err := tell(a); err != nil {
			return err
		}
	}
}

// ask sends questions until ctx ends or the stream fails.
func ask(ctx context.Context, stream peerv1.Peers_AwaitHereClient, questions <-chan rollout.Question) {
	for {
		select {
		case q, ok := <-questions:
			if !ok {
				return
			}
			m := &peerv1.AwaitHereRequest{Elsewhere: toHolders(q.Elsewhere), Held: toSightings(q.Held)}
			if stream.Send(m) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// ListHere implements [Peer].
func (c *client) ListHere(ctx context.Context, incarnation string) (Listing, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.peers.ListHere(ctx, &peerv1.ListHereRequest{Incarnation: incarnation})
	if err != nil {
		return Listing{}, errorOf(err)
	}
	var l Listing
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return l, nil
		}
		if err != nil {
			return Listing{}, errorOf(err)
		}
		l.Sidecars = append(l.Sidecars, m.GetSidecars()...)
		l.Revision, l.StoreAge = m.GetRevision(), m.GetStoreAge().AsDuration()
	}
}

// errorOf makes what a peer answered one of the errors that [Peer] speaks of.
func errorOf(err error) error {
	if status.Code(err) == codes.FailedPrecondition {
		return errors.Join(ErrIncarnation, err)
	}
	return err
}

func toHolders(all []rollout.Holder) []*peerv1.Holder {
	out := make([]*peerv1.Holder, len(all))
	for i, h := range all {
		out[i] = &peerv1.Holder{Agent: h.Agent, Instance: h.Instance, KeyDigest: h.Key[:]}
	}
	return out
}

func toSightings(all []rollout.Sighting) []*peerv1.Holder {
	out := make([]*peerv1.Holder, len(all))
	for i, s := range all {
		out[i] = &peerv1.Holder{Agent: s.Agent, Instance: s.Instance, KeyDigest: s.Key[:], Ordinal: s.Ordinal}
	}
	return out
}

func fromHolders(all []*peerv1.Holder) []rollout.Holder {
	var out []rollout.Holder
	for _, s := range fromSightings(all) {
		out = append(out, s.Holder)
	}
	return out
}

// fromSightings leaves out what is no key's digest: it names nobody.
func fromSightings(all []*peerv1.Holder) []rollout.Sighting {
	var out []rollout.Sighting
	for _, h := range all {
		if len(h.GetKeyDigest()) == sha256.Size {
			out = append(out, rollout.Sighting{
				Holder:  rollout.Holder{Agent: h.GetAgent(), Instance: h.GetInstance(), Key: rollout.Key(h.GetKeyDigest())},
				Ordinal: h.GetOrdinal(),
			})
		}
	}
	return out
}

func toStandings(all []rollout.Standing) []*peerv1.Standing {
	out := make([]*peerv1.Standing, len(all))
	for i, s := range all {
		out[i] = &peerv1.Standing{Sidecar: s.Sidecar, Ordinal: s.Ordinal, State: peerv1.Standing_State(s.State)} //nolint:gosec // it is one of four
	}
	return out
}

func fromStandings(all []*peerv1.Standing) []rollout.Standing {
	out := make([]rollout.Standing, len(all))
	for i, s := range all {
		out[i] = rollout.Standing{Sidecar: s.GetSidecar(), Ordinal: s.GetOrdinal(), State: rollout.State(s.GetState())}
	}
	return out
}
