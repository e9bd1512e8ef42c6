package replicas

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
)

// A sidecar is what one really holds and does.
type sidecar struct {
	agent, instance string
	node            *node
	stream          string
	held            int64
	request         int           // the last
	sent            time.Time     // when the last request that was answered was sent
	bound, longest  time.Duration // what was answered
}

// connect has a sidecar open a stream; it fails if the control plane is behind.
func (s *sidecar) connect(n *node) bool {
	w := n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.paused || n.ctx.Err() != nil || s.held > n.applied {
		return false
	}
	w.streams++
	s.node, s.stream = n, fmt.Sprint("stream ", w.streams)
	var fresh time.Duration
	if !s.sent.IsZero() {
		fresh = max(s.bound, s.longest) - time.Since(s.sent)*500/501 // on its slow clock
	}
	if err := n.rollout.Open(rollout.Stream{
		ID: s.stream, Agent: s.agent, Instance: s.instance, Ordinal: int64(w.streams), FreshFor: fresh,
	}); err != nil {
		w.t.Error(err)
	}
	return true
}

// named returns the longest bound that what a sidecar holds names. The caller holds
// mu.
func (w *world) named(s *sidecar) (longest time.Duration) {
	for _, c := range w.changes {
		if c.agent == s.agent && c.revision <= s.held {
			longest = c.bound
		}
	}
	return longest
}

// receive has a sidecar publish what its control plane has.
func (s *sidecar) receive(acknowledge bool) {
	if s.stream == "" {
		return
	}
	w := s.node.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.node.paused || s.node.ctx.Err() != nil {
		return
	}
	s.held = max(s.held, s.node.applied)
	s.longest = min(s.longest, w.named(s))
	if acknowledge {
		s.node.rollout.Acknowledge(s.stream, s.held)
	}
}

// leave ends a stream, which the control plane may not notice.
func (s *sidecar) leave(noticed bool) {
	if noticed && s.stream != "" {
		s.node.rollout.Close(s.stream)
	}
	s.stream = ""
}

// renew asks for freshness and waits for it.
func (s *sidecar) renew() error {
	if s.stream == "" {
		return errors.New("no stream")
	}
	return s.renewAt(s.node, s.stream, [3]time.Duration{})
}

// renewAt is renew of a stream that the sidecar has or had, and stalls before the
// store is read, before freshness is granted, and on the way back.
func (s *sidecar) renewAt(n *node, stream string, stalls [3]time.Duration) error {
	w, ctx := n.w, n.ctx
	w.mu.Lock()
	s.request++
	request, sent := s.request, time.Now()
	w.mu.Unlock()
	stall := func(d time.Duration) error {
		w.delay()
		time.Sleep(d)
		return w.while(ctx, func() bool { return n.paused })
	}
	if err := stall(stalls[0]); err != nil {
		return err
	}
	head, err := n.replicas.Head(ctx)
	if err != nil {
		return err
	}
	if err := stall(stalls[1]); err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	granted, err := n.rollout.Grant(timed, rollout.Renewal{Stream: stream, Agent: s.agent, Revision: head})
	if err != nil {
		return err
	}
	time.Sleep(stalls[2]) // on its way, whatever becomes of the control plane
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.ctx.Err() == nil && request == s.request {
		s.sent, s.bound, s.longest = sent, granted.Bound, min(granted.Longest, w.named(s))
	}
	return nil
}

// hold has a sidecar connect, hold all and be fresh.
func (s *sidecar) hold(n *node) {
	n.w.t.Helper()
	if !s.connect(n) {
		n.w.t.Fatal("not let in")
	}
	s.receive(true)
	if err := s.renew(); err != nil {
		n.w.t.Fatal(err)
	}
}

// freshUntil is until when a sidecar acts on what it holds, by a clock that may be
// 0.2 % slow. The caller holds mu.
func (w *world) freshUntil(s *sidecar) time.Time {
	if s.sent.IsZero() {
		return s.sent
	}
	lasts := min(max(s.bound, w.named(s)), max(s.bound, s.longest))
	return s.sent.Add(lasts + lasts/500)
}

// sidecar is one more.
func (w *world) sidecar(agent, instance string) *sidecar {
	s := &sidecar{agent: agent, instance: instance}
	w.mu.Lock()
	w.sidecars = append(w.sidecars, s)
	w.mu.Unlock()
	return s
}

// acknowledging has sidecars acknowledge what they get, a little later.
func (w *world) acknowledging(after time.Duration, sidecars ...*sidecar) {
	w.all.Go(func() {
		time.Sleep(after)
		for _, s := range sidecars {
			s.receive(true)
		}
	})
}
