package session

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/clitest"
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
	return clitest.Serve(t, func(server *grpc.Server) { adminv1.RegisterSidecarsServer(server, f) })
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
