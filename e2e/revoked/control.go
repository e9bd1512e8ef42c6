package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
)

// A control is a mechanism that is switched off, and schedules directed at what
// it prevents. With the mechanism on, the same schedules find nothing late.
type control struct {
	mechanism string
	replicas  int
	// network is whether it needs links that can be cut.
	network bool
	// stall holds every sidecar up, as REEVE_FAULT_STALL says.
	stall    string
	schedule func(r *runner) *schedule
}

// tries is how many schedules a control may take until it is red.
const tries = 25

// The one that takes longest is first.
var controls = []control{
	{mechanism: "quorum_read", replicas: 3, network: true, schedule: forsakeReplica},
	{mechanism: "freshness", replicas: 1, schedule: stopSidecars},
	{mechanism: "recheck", replicas: 1, stall: "forward=20ms", schedule: stopSidecars},
	{mechanism: "ack_gate", replicas: 1, stall: "publish=300ms", schedule: undisturbed},
}

// playControls plays each control until it is red, two at a time, and returns how
// many are.
func playControls(ctx context.Context, s settings, out io.Writer) (red, all int, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	var reds atomic.Int64
	for i, c := range controls {
		if c.network && !s.network {
			say(out, "control %s: left out, for it cuts links\n", c.mechanism)
			continue
		}
		all++
		group.Go(func() error {
			found, err := c.play(ctx, s, fmt.Sprintf("n%d", i), out)
			if err != nil {
				return fmt.Errorf("control %s: %w", c.mechanism, err)
			}
			if found {
				reds.Add(1)
			}
			return nil
		})
	}
	err = group.Wait()
	return int(reds.Load()), all, err
}

// play plays schedules with the mechanism on, which must find nothing, and then
// with it off until one does.
func (c *control) play(ctx context.Context, s settings, name string, out io.Writer) (red bool, err error) {
	began := time.Now()
	on, err := c.tryOut(ctx, s, name+"a", "", 1, out)
	if err != nil {
		return false, err
	}
	if on.late > 0 {
		say(out, "control %s: late with the mechanism on\n", c.mechanism)
		return false, nil
	}
	off, err := c.tryOut(ctx, s, name+"b", c.mechanism, tries, out)
	if err != nil {
		return false, err
	}
	say(out, "control %s: %d late in %d schedules without it, 0 late in %d with it, %v\n",
		c.mechanism, off.late, off.schedules, on.schedules, time.Since(began).Round(time.Second))
	return off.late > 0, nil
}

// tryOut plays schedules until one finds something late.
func (c *control) tryOut(ctx context.Context, s settings, name, off string, atMost int, out io.Writer) (t totals, err error) {
	cfg := cluster.Config{Name: name, Replicas: c.replicas, Off: off, Stall: c.stall, Faulty: true}
	running, done, err := newCluster(ctx, s, cfg, out)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, done()) }()
	r := newRunner(running, s.bound, out)
	for t.schedules < atMost && t.late == 0 {
		script := c.schedule(r)
		late, err := r.play(ctx, script)
		if err != nil {
			return t, err
		}
		t.schedules++
		t.late += len(late)
		if len(late) > 0 {
			say(out, "control %s: %s (and %d more)\n", c.mechanism, late[0], len(late)-1)
		}
	}
	return t, nil
}

// stopSidecars stops every sidecar amid calls, takes everything, and lets them go
// on when the wait has returned.
func stopSidecars(r *runner) *schedule {
	s := &schedule{title: "stop all sidecars", dwell: 400 * time.Millisecond}
	for i, sidecar := range r.Sidecars {
		s.faults = append(s.faults, &fault{
			name: fmt.Sprintf("stop s%d", i), at: 50 * time.Millisecond, lasts: 2500 * time.Millisecond,
			begin: func(context.Context) error { return sidecar.Pause() },
			end:   func(context.Context) error { return sidecar.Resume() },
		})
	}
	v := haltOf(cluster.Namespace + "/fleet")
	v.at = 150 * time.Millisecond
	s.revocations = []*revocation{v}
	return s
}

// undisturbed takes everything while nothing is wrong.
func undisturbed(*runner) *schedule {
	v := haltOf(cluster.Namespace + "/fleet")
	return &schedule{title: "nothing wrong", revocations: []*revocation{v}, dwell: 500 * time.Millisecond}
}

// forsakeReplica leaves sidecars nothing but a replica that is cut off from the
// store and from the other replicas.
func forsakeReplica(r *runner) *schedule {
	s := &schedule{title: "a replica cut off from the store", dwell: 100 * time.Millisecond}
	b := &breaker{Cluster: r.Cluster}
	var links []link
	both := func(x, y string) { links = append(links, link{x, y}, link{y, x}) }
	for i := range r.Sidecars {
		both(fmt.Sprintf("s%d", i), "r1")
		both(fmt.Sprintf("s%d", i), "r2")
	}
	apart := b.cut(links...)
	apart.name = "leave the sidecars r0 alone"
	apart.lasts = 6 * time.Second
	links = nil
	for i := range r.Etcd.Members {
		both("r0", fmt.Sprintf("e%d", i))
	}
	both("r0", "r1")
	both("r0", "r2")
	away := b.cut(links...)
	// Until then the sidecars have moved to r0, and are fresh there.
	away.at, away.lasts = 3*time.Second, 3*time.Second
	s.faults = []*fault{apart, away}
	v := haltOf(cluster.Namespace + "/fleet")
	v.at, v.through, v.waiter = 3200*time.Millisecond, 1, 1
	s.revocations = []*revocation{v}
	return s
}
