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
	"github.com/reeve-authz/reeve/e2e/revoked/script"
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
	schedule func(c *cluster.Cluster) *script.Schedule
}

// tries is how many schedules a control may take until it is red.
const tries = 25

// The one that takes longest is first.
var controls = []control{
	{mechanism: "quorum_read", replicas: 3, network: true, schedule: script.ForsakeReplica},
	{mechanism: "freshness", replicas: 1, schedule: script.StopSidecars},
	{mechanism: "recheck", replicas: 1, stall: "forward=20ms", schedule: script.StopSidecars},
	{mechanism: "ack_gate", replicas: 1, stall: "publish=300ms", schedule: script.Undisturbed},
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
		played := c.schedule(running)
		late, err := r.play(ctx, played)
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
