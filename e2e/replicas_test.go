package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/e2e/stack"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// TestRollingRestart restarts three replicas in turn, in order, amid traffic, as
// an upgrade does. P8: nobody notices.
func TestRollingRestart(t *testing.T) {
	s := start(t, stack.Config{Replicas: 3})
	d := drive(t, s, 4, "search_tickets", "text")
	d.flows(t, 50)
	for _, r := range s.Replicas {
		r.Stop(patience)
		restart(t, r.Process)
		d.flows(t, 100)
	}
	calls := d.stop()
	for _, c := range calls {
		if c.report.Verdict != "allow" && c.report.Verdict != "given up" {
			t.Errorf("P8: a call ended %s %s %s", c.report.Verdict, c.report.Reason, c.report.Message)
		}
	}
	join(t, s, calls)
}

// TestReplicaLost loses the replica that the sidecar is at, by a kill and by a
// hang that lasts longer than the bound. P8: the sidecar stays fresh at another.
func TestReplicaLost(t *testing.T) {
	const bound = 3 * time.Second
	for _, c := range []struct {
		name       string
		lose, mend func(*testing.T, *stack.Process)
	}{
		{"killed", func(_ *testing.T, p *stack.Process) { p.Kill() }, restart},
		{"hanging", func(t *testing.T, p *stack.Process) {
			t.Helper()
			if err := p.Pause(); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, p *stack.Process) {
			t.Helper()
			if err := p.Resume(); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, stack.Config{Replicas: 3, FreshnessBound: bound})
			d := drive(t, s, 4, "search_tickets", "text")
			d.flows(t, 50)
			admin, err := s.AdminTLS()
			if err != nil {
				t.Fatal(err)
			}
			lost := serving(t, s, admin, s.Replicas[0])
			c.lose(t, lost.Process)
			began := time.Now()
			for time.Since(began) < bound+bound/2 {
				d.flows(t, 20)
			}
			for _, r := range s.Replicas {
				if r != lost && serving(t, s, admin, r) == lost {
					t.Errorf("%s says that the sidecar is at %s, which is lost", r.ID, lost.ID)
				}
			}
			c.mend(t, lost.Process)
			d.flows(t, 50)
			calls := d.stop()
			for _, c := range calls {
				if c.report.Verdict == "deny" {
					t.Errorf("P8: a call was denied %s", c.report.Reason)
				}
			}
			join(t, s, calls)
		})
	}
}

// serving returns the replica that the one connected sidecar is at, as another
// one says.
func serving(t *testing.T, s *stack.Stack, admin *tls.Config, asked *stack.Replica) *stack.Replica {
	t.Helper()
	conn := dial(t, asked, admin)
	var found *stack.Replica
	eventually(t, asked.ID+" lists one sidecar that is connected", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		page, err := adminv1.NewSidecarsClient(conn).ListSidecars(ctx, &adminv1.ListSidecarsRequest{Parent: "namespaces/" + stack.Namespace})
		if err != nil {
			return false
		}
		found = nil
		for _, sidecar := range page.GetSidecars() {
			for _, r := range s.Replicas {
				if sidecar.GetConnected() && sidecar.GetReplica() == r.ID {
					found = r
				}
			}
		}
		return found != nil
	})
	return found
}

func dial(t *testing.T, r *stack.Replica, admin *tls.Config) *grpc.ClientConn {
	t.Helper()
	conn, err := r.Dial(stack.Host{}, admin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the test is over
	return conn
}

// TestRevokedThroughEither is P2 with two control planes on one etcd: whichever
// is told, and whichever is asked whether it is in force, nothing is allowed
// after that.
func TestRevokedThroughEither(t *testing.T) {
	s := start(t, stack.Config{Replicas: 2})
	admin, err := s.AdminTLS()
	if err != nil {
		t.Fatal(err)
	}
	conns := []*grpc.ClientConn{dial(t, s.Replicas[0], admin), dial(t, s.Replicas[1], admin)}
	d := drive(t, s, 4, "delete_customer", "customer")
	var until []interval
	for n := range 4 {
		apply(t, s, probe)
		d.flows(t, 30)
		took, err := revokeBy(t.Context(), conns[n%2], conns[n/2])
		if err != nil {
			t.Fatal(err)
		}
		revoked := interval{begin: time.Now()}
		t.Logf("taken through %s, waited for at %s: %v", s.Replicas[n%2].ID, s.Replicas[n/2].ID, took.Round(time.Millisecond))
		if took > 5*time.Second {
			t.Errorf("with all well the wait took %v", took)
		}
		denied := d.denied.Load()
		eventually(t, "calls are denied", func() bool { return d.denied.Load() >= denied+30 })
		revoked.end = time.Now()
		until = append(until, revoked)
	}
	join(t, s, d.stop())
	checkRevoked(t, s, until...)
}

// revokeBy removes the probe through one replica and waits at another.
func revokeBy(ctx context.Context, through, waiter *grpc.ClientConn) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	deleted, err := adminv1.NewGrantsClient(through).DeleteGrant(ctx, &adminv1.DeleteGrantRequest{
		Name: "namespaces/" + stack.Namespace + "/grants/probe",
	})
	if err != nil {
		return 0, fmt.Errorf("remove the probe: %w", err)
	}
	stream, err := adminv1.NewSidecarsClient(waiter).AwaitRevision(ctx, &adminv1.AwaitRevisionRequest{Revision: deleted.GetRevision()})
	for err == nil {
		var p *adminv1.AwaitRevisionResponse
		if p, err = stream.Recv(); p.GetInForce() {
			return time.Since(began), nil
		}
	}
	return 0, fmt.Errorf("wait: %w", err)
}
