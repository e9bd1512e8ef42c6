package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// soak keeps silent sidecars connected for a while, and fails if one stream is
// lost.
func soak(ctx context.Context, s settings) (err error) {
	st, err := newStage(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.plane.Close()) }()
	for _, size := range s.sizes {
		if err := st.grow(ctx, size); err != nil {
			return err
		}
		if err := st.silent(ctx, size); err != nil {
			return fmt.Errorf("%d sidecars: %w", size, err)
		}
	}
	return nil
}

func (s *stage) silent(ctx context.Context, size int) error {
	ctx, cancel := context.WithTimeout(ctx, s.soak+2*patience)
	defer cancel()
	w := s.swarm(size, true)
	w.Start(ctx)
	defer w.Stop()
	if _, err := w.AwaitFresh(ctx, 0); err != nil {
		return err
	}
	came, why := w.Lost()
	if came > 0 {
		s.note("%d attempts to connect failed before all were connected: %v", came, why)
	}
	s.note("%d sidecars are connected, and silent for %s from now on", size, s.soak)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(s.soak):
	}
	lost, why := w.Lost()
	lost -= came
	s.line(size, "soak-lost", float64(lost), "streams", float64(lost), "<=0")
	if lost > 0 {
		return fmt.Errorf("%d of %d streams were lost within %s: the last one: %w", lost, size, s.soak, why)
	}
	// A stream that looks alive and is not would be lost at the next message.
	var r revocations
	if err := s.once(ctx, w, &r); err != nil {
		return fmt.Errorf("a change after the silence: %w", err)
	}
	s.line(size, "soak-revoked-in-force", r.inForce[0], "ms", 1, "-")
	return nil
}
