package link

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server answers every call but for streams, which it keeps open.
type server struct {
	address string
	grpc    *grpc.Server
	calls   atomic.Int64
}

func serve(t *testing.T, listener net.Listener) *server {
	t.Helper()
	s := &server{address: listener.Addr().String()}
	s.grpc = grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		s.calls.Add(1)
		method, _ := grpc.MethodFromServerStream(stream)
		if method == "/test/Stream" {
			<-stream.Context().Done()
			return nil
		}
		var m emptypb.Empty
		if err := stream.RecvMsg(&m); err != nil {
			return err
		}
		return stream.SendMsg(&m)
	}))
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.grpc.Serve(listener) })
	t.Cleanup(func() {
		s.grpc.Stop()
		serving.Wait()
	})
	return s
}

func call(ctx context.Context, l *Link) error {
	return l.Invoke(ctx, "/test/Call", &emptypb.Empty{}, &emptypb.Empty{})
}

// All calls go to one replica, and after a move to another; what was under way
// has failed.
func TestMove(t *testing.T) {
	var addresses []string
	servers := make(map[string]*server)
	for range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := serve(t, listener)
		servers[s.address] = s
		addresses = append(addresses, s.address)
	}
	l, err := New(Config{Addresses: addresses, Options: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	been := make(map[string]bool)
	for range 3 {
		if err := l.Move(t.Context(), "test", false); err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		here := servers[l.address]
		l.mu.Unlock()
		been[here.address] = true
		stream, err := l.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test/Stream")
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := call(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		if n := here.calls.Load(); n < 10 {
			t.Errorf("%d calls at %s", n, here.address)
		}
		l.leave(false)
		if err := stream.RecvMsg(&emptypb.Empty{}); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("a stream ended with %v when its replica was left", err)
		}
	}
	if len(been) != 3 {
		t.Errorf("been at %v", been)
	}
}

// linkOf returns a link to a replica in memory.
func linkOf(t *testing.T, cfg Config) *Link {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	serve(t, listener)
	cfg.Options = []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// Calls wait for a connection, as long as their contexts last.
func TestCallsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := linkOf(t, Config{Addresses: three[:1]})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := call(ctx, l); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a call without a connection: %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- call(t.Context(), l) }()
		synctest.Wait()
		if err := l.Move(t.Context(), "test", false); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		// The only replica failed, so there is a pause.
		moved := make(chan error, 1)
		go func() { moved <- l.Move(t.Context(), "test", false) }()
		synctest.Wait()
		start := time.Now()
		if err := call(t.Context(), l); err != nil || time.Since(start) < minBackoff/2 {
			t.Errorf("a call during a pause: %v after %s", err, time.Since(start))
		}
		if err := <-moved; err != nil {
			t.Error(err)
		}
	})
}

// A link that is closed fails every call, and what waits, at once.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := linkOf(t, Config{Addresses: three[:1]})
		waiting, moving := make(chan error, 1), make(chan error, 1)
		if err := l.Move(t.Context(), "test", false); err != nil {
			t.Fatal(err)
		}
		go func() { moving <- l.Move(t.Context(), "test", true) }()
		synctest.Wait()
		go func() { waiting <- call(t.Context(), l) }()
		synctest.Wait()
		start := time.Now()
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if err := <-waiting; status.Code(err) != codes.Canceled {
			t.Errorf("a call that waited: %v", err)
		}
		if err := <-moving; err == nil {
			t.Error("moved although closed")
		}
		if err := call(t.Context(), l); status.Code(err) != codes.Canceled {
			t.Errorf("a call: %v", err)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("took %s", took)
		}
	})
}

// Whatever a move is at when the link is closed, no connection is left.
func TestCloseWhileMoving(t *testing.T) {
	for range 2000 {
		l, err := New(Config{Addresses: three[:1], Options: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}})
		if err != nil {
			t.Fatal(err)
		}
		moved := make(chan struct{})
		go func() {
			defer close(moved)
			_ = l.Move(t.Context(), "test", false)
		}()
		_ = l.Close()
		<-moved
		if l.conn != nil {
			t.Fatal("a connection is left")
		}
	}
}

// A name server that hangs holds up the first connection only, and for a while;
// what it answers later counts.
func TestNameServerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		l := linkOf(t, Config{
			Addresses: []string{"cp:7444"},
			Lookup: func(ctx context.Context, _ string) ([]string, error) {
				if hangs.Load() {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return []string{"192.0.2.1", "192.0.2.2"}, nil
			},
		})
		hangs.Store(true)
		start := time.Now()
		if err := l.Move(t.Context(), "start", false); err != nil || time.Since(start) != resolveWithin {
			t.Errorf("connected after %s: %v", time.Since(start), err)
		}
		hangs.Store(false)
		time.Sleep(resolveWithin)
		if err := l.Move(t.Context(), "test", false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := l.Replicas(); n != 2 {
			t.Errorf("%d replicas, want 2", n)
		}
		hangs.Store(true)
		for range 3 {
			start := time.Now()
			l.Settle()
			if err := l.Move(t.Context(), "test", false); err != nil || time.Since(start) > time.Second {
				t.Errorf("moved after %s: %v", time.Since(start), err)
			}
		}
	})
}
