package session

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

type awaiting = grpc.ServerStreamingServer[adminv1.AwaitRevisionResponse]

// behind is a fleet of which little is heard.
var behind = &adminv1.AwaitRevisionResponse{
	Revision: 42, Applied: 3, Pending: 1, Refused: 1, CutOff: 2, SafeIn: durationpb.New(8200 * time.Millisecond),
	Stragglers: []*adminv1.Sidecar{
		{
			Agent: "namespaces/support/agents/frontline", Instance: "0123456789abcdef", Replica: "cp-1", Connected: true, Revision: 40,
			FreshFor: durationpb.New(8200 * time.Millisecond),
		},
		{
			Agent: "namespaces/support/agents/backoffice", Instance: "89abcdef01234567", Replica: "cp-2", Connected: true, Revision: 42,
			Refusals: []*adminv1.Refusal{{Name: "namespaces/support/grants/refunds", Detail: "condition: what is this"}},
		},
		{
			Agent: "namespaces/coding/agents/reviewer", Instance: "fedcba9876543210", Replica: "cp-2", Revision: 41,
			FreshFor: durationpb.New(3 * time.Second),
		},
	},
	UnheardReplicas: []*adminv1.Replica{
		{Replica: "cp-3", State: adminv1.Replica_UNREACHABLE, FreshFor: durationpb.New(8 * time.Second)},
		{Replica: "cp-4", State: adminv1.Replica_ENDED, FreshFor: durationpb.New(time.Second)},
	},
}

func TestStragglers(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	if err := stragglers(&got, 80, behind); err != nil {
		t.Fatal(err)
	}
	want := `AGENT               INSTANCE          REPLICA  WAITED FOR
support/frontline   0123456789abcdef  cp-1     pending, holds 40, fresh for 8.2s
support/backoffice  89abcdef01234567  cp-2     refuses
    refunds: condition: what is this
coding/reviewer     fedcba9876543210  cp-2     cut off, fresh for 3s
and 1 more: see reevectl sidecars -A
replica cp-3 (does not answer; its sidecars may be fresh for 8s)
replica cp-4 (has ended; its sidecars may be fresh for 1s)
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	said := progress(behind)
	if want := "not in force yet: applied 3/7, 1 pending, 1 refused, 2 cut off, safe in 8.2s; " +
		"waiting for support/frontline at cp-1 (pending, holds 40, fresh for 8.2s) and 5 more"; said != want {
		t.Errorf("said %s; want %s", said, want)
	}
}

// suspended is a command that makes revision 42 and prints an agent.
func suspended(s *Session, c *Change) body {
	return func(ctx context.Context, _ Conn, _ []string) error {
		_, err := c.Made(ctx, "", func(_ context.Context, opts ...grpc.CallOption) error {
			*opts[0].(grpc.HeaderCallOption).HeaderAddr = metadata.Pairs(revisionHeader, "42")
			return s.Print(&grantv1.Agent{Name: "namespaces/support/agents/frontline", State: grantv1.Agent_SUSPENDED}, nil)
		})
		return err
	}
}

// TestReport: a command that waits prints one document, whatever comes of the
// wait, and says nothing of its progress.
func TestReport(t *testing.T) {
	t.Parallel()
	const result = `  "result": {
    "kind": "Agent",
    "name": "namespaces/support/agents/frontline",
    "state": "SUSPENDED"
  }
}
`
	for name, c := range map[string]struct {
		answer func(stream awaiting) error
		format output.Format
		want   string
		code   int
	}{
		"in force": {
			func(stream awaiting) error {
				if err := stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, Pending: 2, SafeIn: durationpb.New(time.Second)}); err != nil {
					return err
				}
				time.Sleep(250 * time.Millisecond) // on the bubble's clock
				return stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, InForce: true, Applied: 2})
			},
			output.AsJSON,
			`{
  "revision": "42",
  "inForce": true,
  "elapsed": "0.250s",
  "applied": 2,
  "pending": 0,
  "refused": 0,
  "cutOff": 0,
  "stragglers": [],
  "unheardReplicas": [],
` + result, 0,
		},
		"in force, as YAML": {
			func(stream awaiting) error {
				return stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, InForce: true, Applied: 2})
			},
			output.AsYAML,
			`revision: "42"
inForce: true
elapsed: 0.000s
applied: 2
pending: 0
refused: 0
cutOff: 0
stragglers: []
unheardReplicas: []
result:
  kind: Agent
  name: namespaces/support/agents/frontline
  state: SUSPENDED
`, 0,
		},
		"late": {
			func(stream awaiting) error {
				for {
					p := &adminv1.AwaitRevisionResponse{
						Revision: 42, CutOff: 1, SafeIn: durationpb.New(time.Second),
						Stragglers: behind.GetStragglers()[2:], UnheardReplicas: behind.GetUnheardReplicas()[1:],
					}
					if err := stream.Send(p); err != nil {
						return err
					}
					time.Sleep(250 * time.Millisecond) // on the bubble's clock
				}
			},
			output.AsJSON,
			`{
  "revision": "42",
  "inForce": false,
  "reason": "revision 42 is stored but not in force after 5s: it waits for coding/reviewer at cp-2 (cut off, fresh for 3s) and 1 more, and is in force in 1s at the latest: go on waiting with reevectl wait 42",
  "elapsed": "5.000s",
  "applied": 0,
  "pending": 0,
  "refused": 0,
  "cutOff": 1,
  "safeIn": "1.000s",
  "stragglers": [
    {
      "agent": "namespaces/coding/agents/reviewer",
      "instance": "fedcba9876543210",
      "revision": "41",
      "freshFor": "3s",
      "replica": "cp-2"
    }
  ],
  "unheardReplicas": [
    {
      "replica": "cp-4",
      "state": "ENDED",
      "freshFor": "1s"
    }
  ],
` + result, ExitNotInForce,
		},
		"denied": {
			func(awaiting) error { return status.Error(codes.PermissionDenied, "you may not") },
			output.AsJSON,
			`{
  "revision": "42",
  "inForce": false,
  "reason": "you may not: revision 42 is stored, and it is not known whether it is in force: go on waiting with reevectl wait 42",
  "elapsed": "0.000s",
  "applied": 0,
  "pending": 0,
  "refused": 0,
  "cutOff": 0,
  "stragglers": [],
  "unheardReplicas": [],
` + result, ExitNotInForce,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := serve(t, &fleet{answer: func(_ int32, _ *adminv1.AwaitRevisionRequest, stream awaiting) error { return c.answer(stream) }})
				s, said := newSession()
				var out bytes.Buffer
				s.Out, s.Format = &out, c.format
				change := Change{Wait: true, Timeout: 5 * time.Second}
				err := change.bounded(t.Context(), s, conn, nil, suspended(s, &change))
				if ExitCode(err) != c.code || c.code != 0 && !strings.HasSuffix(err.Error(), "go on waiting with reevectl wait 42") {
					t.Errorf("ends with %d: %v; want %d", ExitCode(err), err, c.code)
				}
				if diff := cmp.Diff(c.want, out.String()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if said.Len() > 0 {
					t.Errorf("said %s", said)
				}
			})
		})
	}
}

// TestReportWithoutStore: a control plane that answers and knows nothing does not
// leave a report without a word.
func TestReportWithoutStore(t *testing.T) {
	t.Parallel()
	for name, revision := range map[string]int64{"of the newest": 0, "of one": 42} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := serve(t, &fleet{answer: func(int32, *adminv1.AwaitRevisionRequest, awaiting) error {
					return status.Error(codes.Unavailable, "the store does not answer")
				}})
				s, _ := newSession()
				var out bytes.Buffer
				s.Out, s.Format = &out, output.AsJSON
				change := Change{Timeout: 5 * time.Second, Wait: true, made: true, revision: revision, untold: revision == 0}
				err := change.bounded(t.Context(), s, conn, nil, func(context.Context, Conn, []string) error { return nil })
				const want = `"reason": "reeve.test:7443 did not say within 5s whether it is in force (the store does not answer): `
				if ExitCode(err) != ExitNotInForce || !strings.Contains(out.String(), `"inForce": false`) || !strings.Contains(out.String(), want) {
					t.Errorf("%v, and printed:\n%s", err, &out)
				}
			})
		})
	}
}

// TestReportOfHalf: what was made before a later part failed is told.
func TestReportOfHalf(t *testing.T) {
	t.Parallel()
	s, _ := newSession()
	var out bytes.Buffer
	s.Out, s.Format = &out, output.AsJSON
	change := Change{Wait: true, Timeout: 5 * time.Second}
	err := change.bounded(t.Context(), s, nil, nil, func(ctx context.Context, conn Conn, args []string) error {
		if err := suspended(s, &change)(ctx, conn, args); err != nil {
			return err
		}
		return status.Error(codes.NotFound, "there is no other")
	})
	if ExitCode(err) != ExitFailed || !strings.Contains(out.String(), `"inForce": false`) || !strings.Contains(out.String(), `"revision": "42"`) {
		t.Errorf("%v, and printed:\n%s", err, &out)
	}
}

// two is a connection to one of two control planes.
type two struct {
	conns [2]*grpc.ClientConn
	moved atomic.Int32
}

func (c *two) at() *grpc.ClientConn { return c.conns[c.moved.Load()%2] }

func (c *two) Move() bool {
	c.moved.Add(1)
	return true
}

func (c *two) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.at().Invoke(ctx, method, args, reply, opts...)
}

func (c *two) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.at().NewStream(ctx, d, method, opts...)
}

// TestAwaitGoesOnElsewhere: a control plane that dies or hangs in the middle of a
// wait does not end it, if the context has another.
func TestAwaitGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		then   func(stream awaiting) error
		within time.Duration
	}{
		"it dies": {func(awaiting) error { return status.Error(codes.Unavailable, "going away") }, againAfter},
		"it hangs": {func(stream awaiting) error {
			<-stream.Context().Done()
			return nil
		}, silence + againAfter},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := serve(t, &fleet{answer: func(_ int32, _ *adminv1.AwaitRevisionRequest, stream awaiting) error {
					if err := stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, Pending: 1}); err != nil {
						return err
					}
					return c.then(stream)
				}})
				second := serve(t, &fleet{answer: func(_ int32, req *adminv1.AwaitRevisionRequest, stream awaiting) error {
					return stream.Send(&adminv1.AwaitRevisionResponse{Revision: req.GetRevision(), InForce: true, Applied: 1})
				}})
				s, said := newSession()
				s.reached.Addresses = profile.Addresses{"a:1", "b:2"}
				began := time.Now()
				if err := s.awaited(t, &two{conns: [2]*grpc.ClientConn{first, second}}, 42, time.Minute); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > c.within {
					t.Errorf("took %s; want %s", took, c.within)
				}
				if got := said.String(); !strings.Contains(got, "no longer answers; trying the next address\n") ||
					!strings.Contains(got, "in force: 1 applied") {
					t.Errorf("said:\n%s", got)
				}
			})
		})
	}
}

// TestLiveLine: on a terminal there is one line of progress, in the place of the
// one before it, and none when it is over.
func TestLiveLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := serve(t, &fleet{answer: func(_ int32, _ *adminv1.AwaitRevisionRequest, stream awaiting) error {
			for left := 2 * time.Second; left > 0; left -= time.Second {
				if err := stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, CutOff: 1, SafeIn: durationpb.New(left)}); err != nil {
					return err
				}
				time.Sleep(time.Second) // on the bubble's clock
			}
			return stream.Send(&adminv1.AwaitRevisionResponse{Revision: 42, CutOff: 1, InForce: true})
		}})
		s, said := newSession()
		s.columns = 40
		if err := s.awaited(t, conn, 42, time.Minute); err != nil {
			t.Fatal(err)
		}
		want := "\rnot in force yet: applied 0/1, 1 cut o…\x1b[K\rnot in force yet: applied 0/1, 1 cut o…\x1b[K" +
			"\r\x1b[Kin force: 0 applied, 0 pending, 1 cut off (revision 42, after 2s)\n"
		if diff := cmp.Diff(want, said.String()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
