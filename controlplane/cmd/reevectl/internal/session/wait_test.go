package session

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

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
			"reeve.test:7443 did not say within 20s whether it is in force (going away): revision 42 is stored",
			20 * time.Second,
		},
		"is not there": {
			nil, status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`),
			"reeve.test:7443 did not answer within 20s (nothing answers at reeve.test:7443): revision 42 is stored",
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
				time.Sleep(100 * time.Millisecond) // on the bubble's clock
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
		{
			&adminv1.AwaitRevisionResponse{
				Applied: 2, SafeIn: durationpb.New(time.Minute),
				UnheardReplicas: []*adminv1.Replica{{Replica: "cp-1", State: adminv1.Replica_DETACHED, FreshFor: durationpb.New(time.Minute)}},
			},
			"not in force yet: applied 2/2, safe in 60s; waiting for " +
				"replica cp-1 (cannot read the store, and so who else let sidecars act; some may be fresh for 60s)",
		},
		{&adminv1.AwaitRevisionResponse{Revision: 7, InForce: true, CutOff: 1}, "in force: 0 applied, 0 pending, 1 cut off (revision 7)"},
	} {
		if got := progress(c.p); got != c.want {
			t.Errorf("%v is told as %q; want %q", c.p, got, c.want)
		}
	}
}
