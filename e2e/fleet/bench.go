package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reeve-authz/reeve/e2e/bench/report"
	"github.com/reeve-authz/reeve/e2e/fleet/plane"
	"github.com/reeve-authz/reeve/e2e/fleet/swarm"
)

// bench prints the whole table.
func bench(ctx context.Context, s settings) error {
	if s.replicas == 1 {
		return s.tables(ctx, s.sizes...)
	}
	// At the end of a size one control plane was killed, and what it may have
	// granted counts for a bound: the next size has a store of its own.
	for _, size := range s.sizes {
		if err := s.tables(ctx, size); err != nil {
			return err
		}
	}
	return nil
}

// tables prints what there is to say of some sizes on one store.
func (s settings) tables(ctx context.Context, sizes ...int) (err error) {
	st, err := newStage(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.plane.Close()) }()
	for _, size := range sizes {
		if err := st.grow(ctx, size); err != nil {
			return err
		}
		if err := st.table(ctx, size); err != nil {
			return fmt.Errorf("%d sidecars: %w", size, err)
		}
	}
	return nil
}

// table prints what there is to say of one size.
func (s *stage) table(ctx context.Context, size int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	empty, err := s.cost(ctx)
	if err != nil {
		return err
	}
	var alone *revocations
	if checkFiles(3*size) != nil {
		s.note("two floors' %d streams each and as many sidecars are more than one process may have open: the floors are measured by themselves", size)
		if alone, err = s.floorAlone(ctx, size, 400); err != nil {
			return err
		}
	}
	w := s.swarm(size, false)
	defer w.Stop()
	if err := s.coldStart(ctx, w, size, empty); err != nil {
		return err
	}
	var b *floors
	if alone == nil {
		if b, err = newFloors(ctx, s.identities[:size]); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.close()) }()
	}
	r, err := s.revocation(ctx, w, b, size)
	if err != nil {
		return err
	}
	if alone != nil {
		r.floor, r.floorCPU, r.tuned, r.tunedCPU = alone.floor, alone.floorCPU, alone.tuned, alone.tunedCPU
	}
	s.reportRevocations(r, size)
	for _, measure := range []func(context.Context, *swarm.Swarm, int) error{s.oneAgent, s.burst, s.renewals} {
		if err := measure(ctx, w, size); err != nil {
			return err
		}
	}
	if len(s.plane.Replicas) > 1 {
		if err := s.storm(ctx, w, size); err != nil {
			return err
		}
	} else if lost, why := w.Lost(); lost > 0 {
		s.note("%d streams were lost: %v", lost, why)
	}
	return nil
}

func (s *stage) line(size int, what string, value float64, unit string, ratio float64, target string) {
	report.Line(s.out, fmt.Sprintf("fleet-%d-%s", size, what), value, unit, ratio, target)
}

// coldStart has all sidecars come at once.
func (s *stage) coldStart(ctx context.Context, w *swarm.Swarm, size int, empty plane.Cost) error {
	before, err := s.cpu()
	if err != nil {
		return err
	}
	began := w.Now()
	w.Start(ctx)
	last, err := w.AwaitFresh(ctx, 0)
	if err != nil {
		return err
	}
	after, err := s.cpu()
	if err != nil {
		return err
	}
	s.line(size, "cold-start", (last - began).Seconds(), "s", 1, "-")
	s.line(size, "cold-start-cpu-per-stream", float64((after-before).Microseconds())/float64(size), "us", 1, "-")
	full, err := s.cost(ctx)
	if err != nil {
		return err
	}
	each := func(full, empty float64) float64 { return (full - empty) / float64(size) }
	memory := each(full.Heap+full.Stacks, empty.Heap+empty.Stacks) / 1024
	s.line(size, "memory-per-stream", memory, "KB", memory/64, target(size >= 1000, "<=1"))
	s.line(size, "rss-per-stream", each(full.RSS, empty.RSS)/1024, "KB", each(full.RSS, empty.RSS)/1024/64, "-")
	s.line(size, "goroutines-per-stream", each(full.Goroutines, empty.Goroutines), "1", 1, "-")
	s.line(size, "rss", full.RSS/(1<<20), "MB", full.RSS/max(empty.RSS, 1), "-")
	return nil
}

func target(holds bool, t string) string {
	if holds {
		return t
	}
	return "-"
}

// oneAgent changes one agent's set at a time while all are connected. How long
// after the store had it the sidecar had it cannot be seen from outside: the
// administrator's answer comes a moment after the store had it, and until then
// there is a put and what is checked before one.
func (s *stage) oneAgent(ctx context.Context, w *swarm.Swarm, size int) error {
	var put, answered, received, after []float64
	for round := range max(20, s.rounds) {
		agent := round * 7919 % size
		anchor, err := s.plane.Put(ctx)
		if err != nil {
			return err
		}
		id, began := s.change(), w.Now()
		revision, err := s.plane.ForbidAgent(ctx, agent, id)
		if err != nil {
			return err
		}
		told := w.Now()
		if _, err := s.plane.Await(ctx, revision); err != nil {
			return err
		}
		at := w.Received(agent, revision)
		put, answered = append(put, ms(anchor)), append(answered, ms(told-began))
		received, after = append(received, ms(at-began)), append(after, ms(max(0, at-told)))
		if err := s.lift(ctx, id); err != nil {
			return err
		}
	}
	anchor := report.Quantile(put, 0.5)
	line := func(what string, values []float64, q float64) {
		value := report.Quantile(values, q)
		s.line(size, "one-agent-"+what, value, "ms", value/anchor, "-")
	}
	line("put-p50", put, 0.5)
	line("answered-p50", answered, 0.5)
	line("received-p50", received, 0.5)
	line("received-p99", received, 0.99)
	// The goal is a put and 1 ms more.
	late := report.Quantile(after, 0.5)
	s.line(size, "one-agent-received-after-answer-p50", late, "ms", (anchor+late)/(anchor+1), target(size == 5000, "<=1"))
	return nil
}

// burstOf is how many fleet-wide changes a burst has.
const burstOf = 10

// burst makes many fleet-wide changes at once, which are to be merged for those
// who cannot keep up.
func (s *stage) burst(ctx context.Context, w *swarm.Swarm, size int) error {
	ids := make([]string, burstOf)
	revisions := make([]int64, burstOf)
	for i := range ids {
		ids[i] = s.change()
	}
	frames, began := w.Frames(), w.Now()
	group, making := errgroup.WithContext(ctx)
	for i, id := range ids {
		group.Go(func() (err error) {
			revisions[i], err = s.plane.ForbidFleet(making, id)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var newest int64
	for _, r := range revisions {
		newest = max(newest, r)
	}
	if _, err := s.plane.Await(ctx, newest); err != nil {
		return err
	}
	took := w.Now() - began
	each := float64(w.Frames()-frames) / float64(size)
	s.line(size, "burst-in-force", ms(took), "ms", 1, "-")
	s.line(size, "burst-frames-per-stream", each, "1", each/burstOf, target(size >= 5000, "<=0.7"))
	return s.lift(ctx, ids...)
}

// renewals has every sidecar ask for freshness.
func (s *stage) renewals(ctx context.Context, w *swarm.Swarm, size int) error {
	before, err := s.cpu()
	if err != nil {
		return err
	}
	took, err := w.RenewAll(ctx, 256)
	if err != nil {
		return err
	}
	after, err := s.cpu()
	if err != nil {
		return err
	}
	s.line(size, "renewals", float64(size)/took.Seconds(), "1/s", 1, "-")
	s.line(size, "renewal-cpu", float64((after-before).Microseconds())/float64(size), "us", 1, "-")
	return nil
}

// storm kills a control plane, and has its sidecars find another.
func (s *stage) storm(ctx context.Context, w *swarm.Swarm, size int) error {
	last := s.plane.Replicas[len(s.plane.Replicas)-1]
	lost, _ := w.Lost()
	torn := w.On(last.SidecarAddress)
	began := w.Now()
	last.Kill()
	for now := lost; now < lost+int64(torn); now, _ = w.Lost() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for streams to break: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	fresh, err := w.AwaitFresh(ctx, 0)
	if err != nil {
		return err
	}
	now, why := w.Lost()
	s.note("killed one of %d control planes: %d streams were lost (%v)", len(s.plane.Replicas), now-lost, why)
	s.line(size, "storm-all-fresh", (fresh - began).Seconds(), "s", 1, "-")
	return nil
}
