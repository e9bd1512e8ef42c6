package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reeve-authz/reeve/e2e/bench/report"
	"github.com/reeve-authz/reeve/e2e/fleet/plane"
	"github.com/reeve-authz/reeve/e2e/fleet/swarm"
)

// revocations are what rounds of a fleet-wide change took, in milliseconds: from
// the administrator's call until the last sidecar had it, until it was known to be
// in force, until each single sidecar had it; and beside them a put to etcd and a
// broadcast of the floor.
type revocations struct {
	received, inForce, each, put, floor []float64
	// cpu and floorCPU are processor time for a message, in microseconds.
	cpu, floorCPU float64
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// once forbids the fleet something and notes what it took.
func (s *stage) once(ctx context.Context, w *swarm.Swarm, r *revocations) error {
	put, err := s.plane.Put(ctx)
	if err != nil {
		return err
	}
	id, began := s.change(), w.Now()
	revision, err := s.plane.ForbidFleet(ctx, id)
	if err != nil {
		return err
	}
	if _, err := s.plane.Await(ctx, revision); err != nil {
		return err
	}
	inForce := w.Now() - began
	at, err := w.AwaitReceived(ctx, revision)
	if err != nil {
		return err
	}
	var last time.Duration
	for _, t := range at {
		last = max(last, t-began)
		r.each = append(r.each, ms(t-began))
	}
	r.put = append(r.put, ms(put))
	r.received = append(r.received, ms(last))
	r.inForce = append(r.inForce, ms(inForce))
	return s.lift(ctx, id)
}

// lift removes changes and waits until that is in force, so that nothing of it is
// in the way of what comes next.
func (s *stage) lift(ctx context.Context, ids ...string) error {
	revision, err := s.plane.Lift(ctx, ids...)
	if err != nil {
		return err
	}
	_, err = s.plane.Await(ctx, revision)
	return err
}

// revocation measures rounds of fleet-wide changes, interleaved with broadcasts
// of the floor; b may be nil.
func (s *stage) revocation(ctx context.Context, w *swarm.Swarm, b *base, size int) (*revocations, error) {
	r := &revocations{}
	var used, floorUsed time.Duration
	for range s.rounds {
		if b != nil {
			took, cpu, err := b.measured(ctx, w.FrameSize())
			if err != nil {
				return nil, err
			}
			floorUsed += cpu
			r.floor = append(r.floor, ms(took))
		}
		before, err := s.cpu()
		if err != nil {
			return nil, err
		}
		if err := s.once(ctx, w, r); err != nil {
			return nil, err
		}
		after, err := s.cpu()
		if err != nil {
			return nil, err
		}
		used += after - before
	}
	messages := float64(s.rounds * size)
	r.cpu = float64(used.Microseconds()) / messages / 2 // there and back again
	r.floorCPU = float64(floorUsed.Microseconds()) / messages
	return r, nil
}

// measured is a broadcast and the processor time that it took the server.
func (b *base) measured(ctx context.Context, size int) (took, cpu time.Duration, err error) {
	before, err := plane.CPU(b.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	if took, err = b.broadcast(ctx, size); err != nil {
		return 0, 0, err
	}
	after, err := plane.CPU(b.cmd.Process.Pid)
	return took, after - before, err
}

// floorAlone measures broadcasts of the floor while no sidecars are connected.
func (s *stage) floorAlone(ctx context.Context, size, frame int) (r *revocations, err error) {
	b, err := newBase(ctx, s.identities[:size])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	r = &revocations{}
	var used time.Duration
	for range s.rounds {
		took, cpu, err := b.measured(ctx, frame)
		if err != nil {
			return nil, err
		}
		used += cpu
		r.floor = append(r.floor, ms(took))
	}
	r.floorCPU = float64(used.Microseconds()) / float64(s.rounds*size)
	return r, nil
}

// report prints the revocations of a fleet of a size.
func (s *stage) reportRevocations(r *revocations, size int) {
	name := func(what string) string { return fmt.Sprintf("fleet-%d-%s", size, what) }
	p50 := func(values []float64) float64 { return report.Quantile(values, 0.5) }
	floor, put := p50(r.floor), p50(r.put)
	target := "-"
	if size == 5000 {
		target = "<=1.35"
	}
	line := func(what string, value float64, unit string, anchor float64, target string) {
		report.Line(s.out, name(what), value, unit, value/anchor, target)
	}
	line("put-p50", put, "ms", put, "-")
	line("floor-p50", floor, "ms", floor, "-")
	line("floor-max", report.Quantile(r.floor, 1), "ms", floor, "-")
	line("revoked-received-p50", p50(r.received), "ms", floor, "-")
	line("revoked-in-force-p50", p50(r.inForce), "ms", floor, target)
	line("revoked-in-force-max", report.Quantile(r.inForce, 1), "ms", report.Quantile(r.floor, 1), "-")
	line("revoked-each-p50", p50(r.each), "ms", floor, "-")
	line("revoked-each-p99", report.Quantile(r.each, 0.99), "ms", floor, "-")
	line("floor-cpu-per-message", r.floorCPU, "us", r.floorCPU, "-")
	line("revoked-cpu-per-message", r.cpu, "us", r.floorCPU, "-")
}

// revoke measures, for each size, how long after a revocation the last sidecar
// has published the deny, beside a put to etcd.
func revoke(ctx context.Context, s settings) (err error) {
	st, err := newStage(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.plane.Close()) }()
	for _, size := range s.sizes {
		if err := st.grow(ctx, size); err != nil {
			return err
		}
		if err := st.distribution(ctx, size); err != nil {
			return fmt.Errorf("%d sidecars: %w", size, err)
		}
	}
	return nil
}

func (s *stage) distribution(ctx context.Context, size int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w := s.swarm(size, false)
	w.Start(ctx)
	defer w.Stop()
	if _, err := w.AwaitFresh(ctx, 0); err != nil {
		return err
	}
	var r revocations
	for range s.rounds {
		if err := s.once(ctx, w, &r); err != nil {
			return err
		}
	}
	put := report.Quantile(r.put, 0.5)
	for _, q := range []struct {
		name  string
		share float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}} {
		last := report.Quantile(r.received, q.share)
		report.Line(s.out, fmt.Sprintf("revoke-last-deny-%d-sidecars-%s", size, q.name), last, "ms", last/put, "-")
	}
	report.Line(s.out, fmt.Sprintf("revoke-etcd-put-%d-sidecars-p50", size), put, "ms", 1, "-")
	return nil
}
