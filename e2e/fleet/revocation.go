package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/e2e/bench/report"
	"github.com/reeve-authz/reeve/e2e/fleet/plane"
	"github.com/reeve-authz/reeve/e2e/fleet/swarm"
)

// revocations are what rounds of a fleet-wide change took, in milliseconds: from
// the administrator's call until the last sidecar had it, until it was known to be
// in force, until each single sidecar had it; and beside them a put to etcd and a
// broadcast of the floor.
type revocations struct {
	received, inForce, each, put, floor, tuned []float64
	// cpu, floorCPU and tunedCPU are processor time for a message, in microseconds.
	cpu, floorCPU, tunedCPU float64
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
// of the floors.
func (s *stage) revocation(ctx context.Context, w *swarm.Swarm, b *floors, size int) (*revocations, error) {
	r := &revocations{}
	var used time.Duration
	for range s.rounds {
		if err := b.measure(ctx, w.FrameSize(), size, r); err != nil {
			return nil, err
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
	r.cpu = float64(used.Microseconds()) / float64(s.rounds*size) / 2 // there and back again
	return r, nil
}

// floors are the floor as gRPC comes and as it is tuned here.
type floors struct{ bare, tuned *base }

func newFloors(ctx context.Context, identities []swarm.Identity) (_ *floors, err error) {
	f := &floors{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.bare, err = newBase(ctx, identities); err != nil {
		return nil, err
	}
	f.tuned, err = newBase(ctx, identities, swarm.StaticWindows()...)
	return f, err
}

// measure adds a broadcast of each floor to r.
func (f *floors) measure(ctx context.Context, frame, size int, r *revocations) error {
	if f == nil {
		return nil
	}
	for _, of := range []struct {
		base *base
		took *[]float64
		cpu  *float64
	}{{f.bare, &r.floor, &r.floorCPU}, {f.tuned, &r.tuned, &r.tunedCPU}} {
		took, cpu, err := of.base.measured(ctx, frame)
		if err != nil {
			return err
		}
		*of.took = append(*of.took, ms(took))
		// The mean of as many rounds as there were.
		n := float64(len(*of.took))
		*of.cpu += (float64(cpu.Microseconds())/float64(size) - *of.cpu) / n
	}
	return nil
}

func (f *floors) close() error {
	var errs []error
	for _, b := range []*base{f.bare, f.tuned} {
		if b != nil {
			errs = append(errs, b.close())
		}
	}
	return errors.Join(errs...)
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

// floorAlone measures broadcasts of the floors while no sidecars are connected,
// one floor after the other.
func (s *stage) floorAlone(ctx context.Context, size, frame int) (*revocations, error) {
	r := &revocations{}
	for _, of := range []struct {
		options []grpc.DialOption
		took    *[]float64
		cpu     *float64
	}{{nil, &r.floor, &r.floorCPU}, {swarm.StaticWindows(), &r.tuned, &r.tunedCPU}} {
		b, err := newBase(ctx, s.identities[:size], of.options...)
		if err != nil {
			return nil, err
		}
		var used time.Duration
		for range s.rounds {
			took, cpu, err := b.measured(ctx, frame)
			if err != nil {
				return nil, errors.Join(err, b.close())
			}
			used += cpu
			*of.took = append(*of.took, ms(took))
		}
		*of.cpu = float64(used.Microseconds()) / float64(s.rounds*size)
		if err := b.close(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// reportRevocations prints the revocations of a fleet of a size.
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
	line("tuned-floor-p50", p50(r.tuned), "ms", floor, "-")
	line("revoked-received-p50", p50(r.received), "ms", floor, "-")
	line("revoked-in-force-p50", p50(r.inForce), "ms", floor, target)
	line("revoked-in-force-to-tuned-floor-p50", p50(r.inForce), "ms", p50(r.tuned), "-")
	line("revoked-in-force-max", report.Quantile(r.inForce, 1), "ms", report.Quantile(r.floor, 1), "-")
	line("revoked-each-p50", p50(r.each), "ms", floor, "-")
	line("revoked-each-p99", report.Quantile(r.each, 0.99), "ms", floor, "-")
	line("floor-cpu-per-message", r.floorCPU, "us", r.floorCPU, "-")
	line("tuned-floor-cpu-per-message", r.tunedCPU, "us", r.floorCPU, "-")
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
