// Package floor is the least that telling many sidecars one thing can cost with
// gRPC over mutual TLS: a server that sends one message, encoded beforehand, to
// every stream there is, and hears nothing back. What the control plane does is
// measured against it.
package floor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/reeve-authz/reeve/e2e/fleet/swarm"
)

const watchMethod = "/floor.Floor/Watch"

// An Announcement is the first line that a server writes: where it is, the root
// that vouches for it, and what all its clients show.
type Announcement struct {
	Address                            string
	Root, ClientCertificate, ClientKey []byte // DER
}

// Serve listens on loopback, writes its announcement to out as a line of JSON,
// and then sends to every stream a message of as many bytes as each line of in
// says. It returns when in ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	config, announcement, err := certificates()
	if err != nil {
		return err
	}
	listen := net.ListenConfig{KeepAlive: -1}
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &server{streams: make(map[grpc.ServerStream]struct{})}
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.ForceServerCodecV2(swarm.Raw{}),
		grpc.ConnectionTimeout(time.Minute),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: time.Minute}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(4<<10),
	)
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: "floor.Floor",
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: s.watch}},
	}, s)
	var serving sync.WaitGroup
	var failed error
	serving.Go(func() { failed = g.Serve(listener) })
	announcement.Address = listener.Addr().String()
	if err := json.NewEncoder(out).Encode(announcement); err != nil { //nolint:gosec // its clients' key, to the process that plays them
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		size, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil || size < 0 || size > 1<<20 {
			return fmt.Errorf("size %q is not 0 to 1048576", lines.Text())
		}
		if err := s.broadcast(make([]byte, size)); err != nil {
			return err
		}
	}
	g.Stop()
	serving.Wait()
	return errors.Join(failed, lines.Err())
}

type server struct {
	mu      sync.Mutex
	streams map[grpc.ServerStream]struct{}
}

// watch keeps a stream open until the client ends it.
func (s *server) watch(_ any, stream grpc.ServerStream) error {
	var ask []byte
	if err := stream.RecvMsg(&ask); err != nil {
		return err
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	s.mu.Lock()
	s.streams[stream] = struct{}{}
	s.mu.Unlock()
	<-stream.Context().Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, stream)
	return nil
}

func (s *server) broadcast(message []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for stream := range s.streams {
		if err := stream.SendMsg(&message); err != nil {
			return fmt.Errorf("broadcast: %w", err)
		}
	}
	return nil
}
