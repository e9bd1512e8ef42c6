package watch_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/clitest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/watch"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a control plane whose fleet changes each time that it is looked at.
type world struct {
	adminv1.UnimplementedSidecarsServer
	adminv1.UnimplementedFleetServer
	adminv1.UnimplementedDecisionsServer

	mu    sync.Mutex
	looks int
	last  func() // is called at the last look
}

func (w *world) ListSidecars(context.Context, *adminv1.ListSidecarsRequest) (*adminv1.ListSidecarsResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	s := &adminv1.Sidecar{Agent: "namespaces/x/agents/a", Instance: "0123456789", Connected: true, Revision: 7, FreshFor: durationpb.New(time.Second)}
	switch w.looks {
	case 1, 3:
	case 2:
		return nil, status.Error(codes.Unavailable, "no quorum")
	case 4:
		s.Connected, s.FreshFor = false, nil
	default:
		w.last()
		return &adminv1.ListSidecarsResponse{Revision: 8}, nil
	}
	return &adminv1.ListSidecarsResponse{Sidecars: []*adminv1.Sidecar{s}, Revision: 7}, nil
}

func (w *world) ListReplicas(context.Context, *adminv1.ListReplicasRequest) (*adminv1.ListReplicasResponse, error) {
	return &adminv1.ListReplicasResponse{Replicas: []*adminv1.Replica{{Replica: "r", State: adminv1.Replica_SERVING, Revision: 7}}}, nil
}

func (w *world) ListFleetStates(context.Context, *adminv1.ListFleetStatesRequest) (*adminv1.ListFleetStatesResponse, error) {
	return &adminv1.ListFleetStatesResponse{}, nil
}

func (w *world) FollowDecisions(_ *adminv1.FollowDecisionsRequest, stream grpc.ServerStreamingServer[adminv1.FollowDecisionsResponse]) error {
	<-stream.Context().Done()
	return nil
}

// TestRun: piped, each change is a line, a look that fails is one too, and the end
// is no error and leaves nothing running.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &world{last: cancel}
	conn := clitest.Serve(t, func(s *grpc.Server) {
		adminv1.RegisterSidecarsServer(s, w)
		adminv1.RegisterFleetServer(s, w)
		adminv1.RegisterDecisionsServer(s, w)
	})
	var out strings.Builder
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	err := watch.Run(ctx, conn, watch.Options{
		Parent: "namespaces/x", Interval: time.Millisecond, Out: &out, Now: func() time.Time { return at },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `12:00:00 revision 7, 1 control planes, 1 sidecars, 1 of them fresh
12:00:00 control plane r: serving
12:00:00 sidecar x/a 01234567: connected
12:00:00 the control plane does not answer: no quorum
12:00:00 the control plane answers again
12:00:00 sidecar x/a 01234567: cut off, stale: it denies every call
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestDraw: on a terminal nothing is wider or longer than it.
func TestDraw(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &world{last: cancel}
	conn := clitest.Serve(t, func(s *grpc.Server) {
		adminv1.RegisterSidecarsServer(s, w)
		adminv1.RegisterFleetServer(s, w)
		adminv1.RegisterDecisionsServer(s, w)
	})
	var out strings.Builder
	err := watch.Run(ctx, conn, watch.Options{
		Parent: "namespaces/x", Interval: time.Millisecond, Out: &out, Now: time.Now, Width: 50, Height: 6,
	})
	if err != nil {
		t.Fatal(err)
	}
	screens := strings.Split(out.String(), "\x1b[H")[1:]
	if len(screens) != 4 {
		t.Fatalf("%d screens; want one a look", len(screens))
	}
	for _, screen := range screens {
		lines := strings.Split(strings.TrimSuffix(screen, "\x1b[J"), "\n")
		if len(lines) > 6 {
			t.Errorf("%d lines:\n%q", len(lines), screen)
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\x1b[K")); n > 50 {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	}
	if !strings.Contains(screens[1], "the control plane does not answer: no quorum") {
		t.Errorf("not said to be lost: %q", screens[1])
	}
}
