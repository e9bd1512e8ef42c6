package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// fleet answers AwaitRevision with what the test says, call by call.
type fleet struct {
	adminv1.UnimplementedSidecarsServer
	answer func(call int32, req *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error
	calls  atomic.Int32
}

func (f *fleet) AwaitRevision(req *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
	return f.answer(f.calls.Add(1), req, stream)
}

// serve serves a fleet in memory until the test's bubble ends.
func serve(t *testing.T, f *fleet) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	adminv1.RegisterSidecarsServer(server, f)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-ended
	})
	return conn
}

func newSession() (*Session, *bytes.Buffer) {
	var said bytes.Buffer
	return &Session{
		Process: Process{Err: &said, Now: time.Now},
		reached: profile.Context{Name: "prod", Addresses: profile.Addresses{"reeve.test:7443"}},
	}, &said
}

func (s *Session) awaited(t *testing.T, conn Conn, revision int64, timeout time.Duration) error {
	t.Helper()
	_, err := s.Await(t.Context(), conn, revision, timeout, s.Now())
	return err
}

// TestAwaitIsNeverEarly holds P2 at its last step: Await returns when the
// control plane says that the revision is in force, whatever else happens.
func TestAwaitIsNeverEarly(t *testing.T) {
	t.Parallel()
	const inForce = 7 * time.Second
	for name, answer := range map[string]func(call int32, began time.Time, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error{
		"progress": func(_ int32, _ time.Time, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
			for left := inForce; left > 0; left -= time.Second {
				if err := stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, Pending: 1, SafeIn: durationpb.New(left)}); err != nil {
					return err
				}
				time.Sleep(time.Second) // on the bubble's clock
			}
			return nil
		},
		"the stream ends well too early": func(_ int32, _ time.Time, _ grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
			return nil
		},
		"the control plane goes away": func(_ int32, _ time.Time, _ grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
			return status.Error(codes.Unavailable, "going away")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				conn := serve(t, &fleet{answer: func(call int32, req *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
					if req.GetRevision() != 42 {
						return status.Errorf(codes.InvalidArgument, "revision %d", req.GetRevision())
					}
					if time.Since(began) < inForce {
						if err := answer(call, began, stream); err != nil || time.Since(began) < inForce {
							return err
						}
					}
					return stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, InForce: true, Applied: 3, CutOff: 1})
				}})
				s, said := newSession()
				if err := s.awaited(t, conn, 42, time.Minute); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < inForce || took > inForce+time.Second {
					t.Errorf("returned after %s; in force after %s", took, inForce)
				}
				if !strings.HasSuffix(said.String(), "in force: 3 applied, 0 pending, 1 cut off (revision 42, after "+took(time.Since(began))+")\n") {
					t.Errorf("said:\n%s", said)
				}
			})
		})
	}
}

// TestAwaitStaysWithTheRevision: the newest of the first answer is what is
// waited for, also when the control plane goes away and others change things.
func TestAwaitStaysWithTheRevision(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := serve(t, &fleet{answer: func(call int32, req *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
			if call == 1 {
				if err := stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, Pending: 1}); err != nil {
					return err
				}
				return status.Error(codes.Unavailable, "going away")
			}
			return stream.Send(&adminv1.AwaitRevisionResponse{Revision: req.GetRevision(), InForce: true})
		}})
		s, said := newSession()
		if err := s.awaited(t, conn, 0, time.Minute); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(said.String(), "(revision 42, ") {
			t.Errorf("said:\n%s", said)
		}
	})
}

func TestAwaitFails(t *testing.T) {
	t.Parallel()
	straggler := &adminv1.Sidecar{Agent: "namespaces/default/agents/support"}
	refuser := &adminv1.Sidecar{Agent: straggler.GetAgent(), Refusals: []*adminv1.Refusal{{Name: "namespaces/default/grants/x", Detail: "what is this"}}}
	for name, c := range map[string]struct {
		progress *adminv1.AwaitRevisionResponse
		then     error // nil is more of the same
		want     string
		after    time.Duration
	}{
		"behind": {
			&adminv1.AwaitRevisionResponse{Revision: 42, Pending: 1, Stragglers: []*adminv1.Sidecar{straggler}}, nil,
			"revision 42 is stored but not in force after 20s: it waits for default/support (cut off): go on waiting with reevectl wait 42",
			20 * time.Second,
		},
		"refused": {
			&adminv1.AwaitRevisionResponse{Revision: 42, Refused: 1, Stragglers: []*adminv1.Sidecar{refuser}}, nil,
			"namespaces/default/agents/support refuses x (what is this)",
			20 * time.Second,
		},
		"stays silent": {
			nil, errSilent,
			"reeve.test:7443 did not answer within 20s: revision 42 is stored, and it is not known whether it is in force: go on waiting with reevectl wait 42",
			20 * time.Second,
		},
		"falls silent": {
			&adminv1.AwaitRevisionResponse{Revision: 42, Pending: 1, Stragglers: []*adminv1.Sidecar{straggler}}, errSilent,
			"reeve.test:7443 no longer answers: revision 42 is stored, and it is not known whether it is in force: go on waiting with reevectl wait 42",
			20 * time.Second,
		},
		"never comes back": {
			nil, status.Error(codes.Unavailable, "going away"),
			"reeve.test:7443 did not answer within 20s",
			20 * time.Second,
		},
		"does not know us": {
			nil, status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: remote error: tls: bad certificate"`),
			"bad certificate", 0,
		},
		"denied": {
			&adminv1.AwaitRevisionResponse{Revision: 42}, status.Error(codes.PermissionDenied, "you may not"),
			"you may not", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := serve(t, &fleet{answer: func(_ int32, _ *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
					for {
						if c.progress != nil {
							if err := stream.Send(c.progress); err != nil {
								return err
							}
						}
						switch {
						case errors.Is(c.then, errSilent):
							<-stream.Context().Done()
							return nil
						case c.then != nil:
							return c.then
						}
						select {
						case <-stream.Context().Done():
							return nil
						case <-time.After(250 * time.Millisecond):
						}
					}
				}})
				s, _ := newSession()
				began := time.Now()
				err := s.awaited(t, conn, 42, 20*time.Second)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v; want %q in it", err, c.want)
				}
				if took := time.Since(began); took < c.after || took > c.after+time.Second/4 {
					t.Errorf("failed after %s; want %s", took, c.after)
				}
			})
		})
	}
}

// TestProgressIsSaidSparingly: a line whenever the counts change, and otherwise
// every few seconds.
func TestProgressIsSaidSparingly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := serve(t, &fleet{answer: func(_ int32, _ *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
			for i := range int64(40) {
				p := &adminv1.AwaitRevisionResponse{Revision: 42, Pending: 2, SafeIn: durationpb.New(time.Duration(40-i) * 100 * time.Millisecond)}
				if i >= 30 {
					p.Pending, p.Applied = 1, 1
				}
				if err := stream.Send(p); err != nil {
					return err
				}
				time.Sleep(100 * time.Millisecond)
			}
			return stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, Applied: 2, InForce: true})
		}})
		s, said := newSession()
		if err := s.awaited(t, conn, 42, time.Minute); err != nil {
			t.Fatal(err)
		}
		want := `not in force yet: applied 0/2, 2 pending, safe in 4s
not in force yet: applied 0/2, 2 pending, safe in 2s
not in force yet: applied 1/2, 1 pending, safe in 1s
in force: 2 applied, 0 pending, 0 cut off (revision 42, after 4s)
`
		if said.String() != want {
			t.Errorf("said:\n%s\nwant:\n%s", said, want)
		}
	})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	c := profile.Context{Name: "prod", Addresses: profile.Addresses{"reeve.test:7443"}, Certificate: "admin.pem", CA: "ca.pem"}
	for _, f := range []struct {
		err  error
		want string
		code int
	}{
		{nil, "", 0},
		{UsageError{errors.New("no such flag")}, "no such flag", 2},
		{&callError{UsageError{errors.New("no such id")}, c, "reeve.test:7443"}, "no such id", 2},
		{&callError{errors.New("plain"), c, "reeve.test:7443"}, "plain", 1},
		{&callError{status.Error(codes.NotFound, "agent \"x\": not found\x1b[2J"), c, "reeve.test:7443"}, `agent "x": not found\u001b[2J`, 1},
		{
			&callError{status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`), c, "reeve.test:7443"},
			`nothing answers at reeve.test:7443: is the control plane running there? context "prod" says so`, 1,
		},
		{
			&callError{status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: remote error: tls: bad certificate"`), c, "reeve.test:7443"},
			"reeve.test:7443 does not accept admin.pem (bad certificate)", 1,
		},
		{
			&callError{status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: x509svid: could not verify leaf certificate: x509: certificate signed by unknown authority"`), c, "reeve.test:7443"},
			"what answers at reeve.test:7443 is not the control plane of this context", 1,
		},
		{&callError{status.Error(codes.Unavailable, "store does not answer"), c, "reeve.test:7443"}, "store does not answer", 1},
		{&callError{status.Error(codes.Canceled, "context canceled"), c, "reeve.test:7443"}, "interrupted", 1},
		{&callError{status.Error(codes.Unimplemented, "unknown method X"), c, "reeve.test:7443"}, "it is older than this reevectl", 1},
		{
			&callError{status.Error(codes.Unimplemented, "unknown service reeve.admin.v1.Grants"), c, "reeve.test:7443"},
			`what answers at reeve.test:7443 does not administer (unknown service reeve.admin.v1.Grants): is this the admin address?`, 1,
		},
	} {
		if got := ExitCode(f.err); got != f.code {
			t.Errorf("%v: exit code %d; want %d", f.err, got, f.code)
		}
		if f.err != nil && !strings.Contains(fmt.Sprint(f.err), f.want) {
			t.Errorf("%v; want %q in it", f.err, f.want)
		}
	}
}

// TestUnavailable: what gRPC says of a connection becomes what the person can do,
// and of a change that was not answered it is said that nobody knows.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	const (
		refusal = "reeve.test:7443 does not accept admin.pem ("
		silent  = "reeve.test:7443 did not answer: "
		away    = "reeve.test:7443 did not answer within 3s: does the control plane run"
		doubt   = "it is not known whether the grant was revoked; run: reevectl get grant refunds, then reevectl wait"
	)
	c := profile.Context{Name: "prod", Addresses: profile.Addresses{"reeve.test:7443"}, Certificate: "admin.pem", CA: "ca.pem"}
	for text, want := range map[string]string{
		"transport: authentication handshake failed: context deadline exceeded":               away,
		"keepalive ping failed to receive ACK within timeout":                                 silent,
		"error reading from server: EOF":                                                      silent,
		"error reading from server: read tcp 127.0.0.1:1->127.0.0.1:2: connection reset":      silent,
		"error reading server preface: read tcp 127.0.0.1:1: i/o timeout":                     away,
		"error reading server preface: remote error: tls: bad certificate":                    refusal + "bad certificate)",
		"error reading server preface: EOF":                                                   refusal + "it closed the connection)",
		"error reading server preface: read tcp 127.0.0.1:1: read: connection reset by peer":  refusal + "it closed the connection)",
		"transport: failed to write client preface: write tcp 127.0.0.1:1: broken pipe":       refusal + "it closed the connection)",
		"transport: failed to write initial settings frame: write: broken pipe":               refusal + "it closed the connection)",
		"transport: authentication handshake failed: remote error: tls: certificate required": refusal + "certificate required)",
		"transport: authentication handshake failed: tls: first record does not look like a TLS handshake": "what answers at reeve.test:7443 " +
			"does not speak TLS: is this the admin address?",
		"transport: authentication handshake failed: EOF": "is this the admin address?",
		"transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority": "" +
			"is not the control plane of this context (certificate signed by unknown authority)",
		`transport: authentication handshake failed: unexpected ID "spiffe://other.test/controlplane"`: "" +
			`is not the control plane of this context (unexpected ID`,
		"transport: Error while dialing: dial tcp: lookup reeve.test: no such host": "reeve.test:7443 cannot be reached " +
			"(dial tcp: lookup reeve.test: no such host): check the address",
	} {
		err := status.Errorf(codes.Unavailable, "connection error: desc = %q", text)
		got := (&callError{err, c, "reeve.test:7443"}).Error()
		if !strings.Contains(got, want) || want == silent && got != silent+"try again, or look at the control plane's health" {
			t.Errorf("%s becomes:\n%s; want %q in it", text, got, want)
		}
		changed := (&callError{InDoubt(err, doubt), c, "reeve.test:7443"}).Error()
		if want == silent && changed != silent+doubt || want != silent && changed != got {
			t.Errorf("%s becomes of a change:\n%s", text, changed)
		}
	}
	for _, err := range []error{
		status.Error(codes.Unavailable, "store does not answer"), status.Error(codes.DeadlineExceeded, "context deadline exceeded"),
		status.Error(codes.Canceled, "context canceled"),
	} {
		if got := (&callError{InDoubt(err, doubt), c, "reeve.test:7443"}).Error(); !strings.HasSuffix(got, ": "+doubt) {
			t.Errorf("%v becomes of a change: %s", err, got)
		}
	}
	if err := status.Error(codes.NotFound, "no such grant"); !errors.Is(InDoubt(err, doubt), err) {
		t.Error("what was answered is in doubt")
	}
}

// TestTimeoutIsOfAllOfIt: the change and the wait together take no longer.
func TestTimeoutIsOfAllOfIt(t *testing.T) {
	t.Parallel()
	const timeout = 5 * time.Second
	for name, change := range map[string]time.Duration{"the change hangs": time.Hour, "the wait hangs": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := serve(t, &fleet{answer: func(_ int32, _ *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
					<-stream.Context().Done()
					return nil
				}})
				s, _ := newSession()
				c := Change{Wait: true, Timeout: timeout}
				began := time.Now()
				err := c.bounded(t.Context(), s, conn, nil, func(ctx context.Context, _ Conn, _ []string) error {
					_, err := c.Made(ctx, "", func(ctx context.Context, _ ...grpc.CallOption) error {
						select {
						case <-ctx.Done():
							return status.FromContextError(ctx.Err()).Err()
						case <-time.After(change):
							return nil
						}
					})
					return err
				})
				if err == nil || time.Since(began) != timeout {
					t.Errorf("ended after %s with %v; want %s", time.Since(began), err, timeout)
				}
			})
		})
	}
}

// TestUntoldRevision: if one of several changes did not tell its revision, what
// is waited for is the newest.
func TestUntoldRevision(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		told []string
		want int64
	}{
		"all told":   {[]string{"42", "41"}, 42},
		"one untold": {[]string{"42", ""}, 0},
		"none told":  {[]string{""}, 0},
		"misread":    {[]string{"forty-two"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var awaited atomic.Int64
			awaited.Store(-1)
			conn := serve(t, &fleet{answer: func(_ int32, req *adminv1.AwaitRevisionRequest, stream grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]) error {
				awaited.Store(req.GetRevision())
				return stream.Send(&adminv1.AwaitRevisionResponse{Revision: 50, InForce: true})
			}})
			s, _ := newSession()
			change := Change{Wait: true, Timeout: time.Minute}
			err := change.bounded(t.Context(), s, conn, nil, func(ctx context.Context, _ Conn, _ []string) error {
				for _, told := range c.told {
					_, err := change.Made(ctx, "", func(_ context.Context, opts ...grpc.CallOption) error {
						if told != "" {
							*opts[0].(grpc.HeaderCallOption).HeaderAddr = metadata.Pairs(revisionHeader, told)
						}
						return nil
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil || awaited.Load() != c.want {
				t.Errorf("awaited revision %d, %v; want %d", awaited.Load(), err, c.want)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    *adminv1.AwaitRevisionResponse
		want string
	}{
		{
			&adminv1.AwaitRevisionResponse{SafeIn: durationpb.New(1800 * time.Millisecond)},
			"not in force yet: applied 0/0, safe in 1.8s; waiting for what nobody names: a control plane that has not heard of it yet, or sidecars of before a restart",
		},
		{
			&adminv1.AwaitRevisionResponse{Applied: 2, SafeIn: durationpb.New(time.Second)},
			"not in force yet: applied 2/2, safe in 1s; waiting for what nobody names: a control plane that has not heard of it yet, or sidecars of before a restart",
		},
		{
			&adminv1.AwaitRevisionResponse{Applied: 2, Refused: 1, SafeIn: durationpb.New(time.Second)},
			"not in force yet: applied 2/3, 1 refused, safe in 1s",
		},
		{&adminv1.AwaitRevisionResponse{Revision: 7, InForce: true, CutOff: 1}, "in force: 0 applied, 0 pending, 1 cut off (revision 7)"},
	} {
		if got := progress(c.p); got != c.want {
			t.Errorf("%v is told as %q; want %q", c.p, got, c.want)
		}
	}
}
