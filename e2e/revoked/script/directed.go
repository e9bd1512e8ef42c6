package script

import (
	"context"
	"fmt"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
)

// StopSidecars stops every sidecar amid calls, takes everything, and lets them go
// on when the wait has returned.
func StopSidecars(r *cluster.Cluster) *Schedule {
	s := &Schedule{Title: "stop all sidecars", Dwell: 400 * time.Millisecond}
	for i, sidecar := range r.Sidecars {
		s.Faults = append(s.Faults, &Fault{
			Name: fmt.Sprintf("stop s%d", i), At: 50 * time.Millisecond, Lasts: 2500 * time.Millisecond,
			Begin: func(context.Context) error { return sidecar.Pause() },
			End:   func(context.Context) error { return sidecar.Resume() },
		})
	}
	v := Halt(cluster.Namespace + "/fleet")
	v.At = 150 * time.Millisecond
	s.Revocations = []*Revocation{v}
	return s
}

// Undisturbed takes everything while nothing is wrong.
func Undisturbed(*cluster.Cluster) *Schedule {
	v := Halt(cluster.Namespace + "/fleet")
	return &Schedule{Title: "nothing wrong", Revocations: []*Revocation{v}, Dwell: 500 * time.Millisecond}
}

// ForsakeReplica leaves sidecars nothing but a replica that is cut off from the
// store and from the other replicas.
func ForsakeReplica(r *cluster.Cluster) *Schedule {
	s := &Schedule{Title: "a replica cut off from the store", Dwell: 100 * time.Millisecond}
	b := &breaker{Cluster: r}
	var links []link
	both := func(x, y string) { links = append(links, link{x, y}, link{y, x}) }
	for i := range r.Sidecars {
		both(fmt.Sprintf("s%d", i), "r1")
		both(fmt.Sprintf("s%d", i), "r2")
	}
	apart := b.cut(links...)
	apart.Name = "leave the sidecars r0 alone"
	apart.Lasts = 6 * time.Second
	links = nil
	for i := range r.Etcd.Members {
		both("r0", fmt.Sprintf("e%d", i))
	}
	both("r0", "r1")
	both("r0", "r2")
	away := b.cut(links...)
	// Until then the sidecars have moved to r0, and are fresh there.
	away.At, away.Lasts = 3*time.Second, 3*time.Second
	s.Faults = []*Fault{apart, away}
	v := Halt(cluster.Namespace + "/fleet")
	v.At, v.Through, v.Waiter = 3200*time.Millisecond, 1, 1
	s.Revocations = []*Revocation{v}
	return s
}
