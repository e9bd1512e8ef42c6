package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

// controlPlane is the other end as ingest.proto has it: it takes what follows
// what it has, and nothing else.
type controlPlane struct {
	ingestv1.UnimplementedIngestServer

	mu     sync.Mutex
	stored map[string][][]byte // by instance
	// before and after, if set, are called before a batch is stored and before
	// it is acknowledged; an error ends the stream.
	before, after func(first int64) error
	batches       int
	changed       chan struct{} // closed and made anew at each batch
}

func newControlPlane() *controlPlane {
	return &controlPlane{stored: make(map[string][][]byte), changed: make(chan struct{})}
}

func (c *controlPlane) Push(stream grpc.BidiStreamingServer[ingestv1.PushRequest, ingestv1.PushResponse]) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := c.store(req)
		if err != nil {
			return err
		}
		if err := stream.Send(&ingestv1.PushResponse{StoredSequence: n}); err != nil {
			return err
		}
	}
}

func (c *controlPlane) store(req *ingestv1.PushRequest) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.before != nil {
		if err := c.before(req.GetFirstSequence()); err != nil {
			return 0, err
		}
	}
	have := c.stored[req.GetInstance()]
	for i, encoded := range req.GetRecords() {
		sequence := req.GetFirstSequence() + int64(i)
		if sequence <= int64(len(have)) {
			if !bytes.Equal(have[sequence-1], encoded) {
				return 0, status.Errorf(codes.FailedPrecondition, "record %d is another", sequence)
			}
			continue
		}
		r := &decisionv1.Record{}
		if err := proto.Unmarshal(encoded, r); err != nil {
			return 0, status.Error(codes.InvalidArgument, err.Error())
		}
		var previous []byte
		if len(have) > 0 {
			sum := sha256.Sum256(have[len(have)-1])
			previous = sum[:]
		}
		if sequence != int64(len(have))+1 || r.GetSequence() != sequence || !bytes.Equal(r.GetPreviousDigest(), previous) {
			return 0, status.Errorf(codes.FailedPrecondition, "record %d does not follow record %d", sequence, len(have))
		}
		have = append(have, encoded)
	}
	c.stored[req.GetInstance()] = have
	if len(req.GetRecords()) > 0 {
		c.batches++
	}
	close(c.changed)
	c.changed = make(chan struct{})
	if c.after != nil {
		if err := c.after(req.GetFirstSequence()); err != nil {
			return 0, err
		}
	}
	return int64(len(have)), nil
}

// await returns when n records of an instance are stored.
func (c *controlPlane) await(tb testing.TB, instance string, n int64) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	for {
		c.mu.Lock()
		have, changed := int64(len(c.stored[instance])), c.changed
		c.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			tb.Fatalf("%d of %d records stored: %v", have, n, ctx.Err())
		}
	}
}

// serve serves c until the test ends.
func serve(tb testing.TB, c *controlPlane) ingestv1.IngestClient {
	tb.Helper()
	server := grpc.NewServer()
	ingestv1.RegisterIngestServer(server, c)
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///controlplane",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	return ingestv1.NewIngestClient(conn)
}
