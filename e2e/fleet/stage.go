package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/e2e/fleet/floor"
	"github.com/reeve-authz/reeve/e2e/fleet/plane"
	"github.com/reeve-authz/reeve/e2e/fleet/swarm"
)

// longestBound is the longest freshness bound there is: sidecars under it are
// silent for the whole of a measurement.
const longestBound = 15 * time.Minute

// patience is how long anything but a soak may take before it counts as failed.
const patience = 3 * time.Minute

// A stage is what one command measures on: control planes with agents enrolled.
type stage struct {
	settings
	plane      *plane.Plane
	identities []swarm.Identity
	changes    int
}

func newStage(ctx context.Context, s settings) (*stage, error) {
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p, err := plane.Start(starting, plane.Config{
		Bin: s.bin, Etcd: s.etcd, Replicas: s.replicas, Bound: longestBound, Arguments: []string{"--ops-pprof"},
	})
	if err != nil {
		return nil, err
	}
	return &stage{settings: s, plane: p}, nil
}

// grow enrols agents until there are so many.
func (s *stage) grow(ctx context.Context, size int) error {
	more := size - len(s.identities)
	if more <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	began := time.Now()
	added, err := s.plane.Enrol(ctx, more)
	if err != nil {
		return err
	}
	s.identities = append(s.identities, added...)
	took := time.Since(began)
	s.note("%d more agents made and enrolled in %s: %s each", more, took.Round(time.Millisecond), (took / time.Duration(more)).Round(time.Microsecond))
	return nil
}

// swarm returns so many sidecars, which are not connected.
func (s *stage) swarm(size int, renew bool) *swarm.Swarm {
	return swarm.New(swarm.Config{Endpoints: s.plane.Endpoints(), Roots: s.plane.Roots, Renew: renew}, s.identities[:size])
}

// change returns the id of a grant that there never was.
func (s *stage) change() string {
	s.changes++
	return fmt.Sprintf("change-%d", s.changes)
}

// cpu returns what all control planes together have used up.
func (s *stage) cpu() (sum time.Duration, err error) {
	for _, r := range s.plane.Replicas {
		if r.PID() == 0 {
			continue
		}
		one, err := plane.CPU(r.PID())
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// cost returns what all control planes that run together hold, after they
// collected their garbage.
func (s *stage) cost(ctx context.Context) (sum plane.Cost, err error) {
	for _, r := range s.plane.Replicas {
		if r.PID() == 0 {
			continue
		}
		c, err := plane.CostOf(ctx, r, true)
		if err != nil {
			return sum, err
		}
		sum.CPU += c.CPU
		sum.RSS += c.RSS
		sum.Heap += c.Heap
		sum.Stacks += c.Stacks
		sum.Goroutines += c.Goroutines
	}
	return sum, nil
}

// A base is a floor's server, a process of its own, with as many clients as
// there are sidecars. Without options it is gRPC as it comes; a floor that is
// tuned as Reeve is has [swarm.StaticWindows].
type base struct {
	cmd      *exec.Cmd
	lines    io.WriteCloser
	clients  *floor.Clients
	messages int64
	// opened is how long the clients took to connect.
	opened time.Duration
}

func newBase(ctx context.Context, identities []swarm.Identity, options ...grpc.DialOption) (_ *base, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &base{cmd: exec.Command(self, "floor")}
	b.cmd.Stderr = os.Stderr
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if b.lines, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start floor: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	var server floor.Announcement
	if err := json.NewDecoder(out).Decode(&server); err != nil {
		return nil, fmt.Errorf("start floor: %w", err)
	}
	addresses := make([]net.IP, len(identities))
	for i, id := range identities {
		addresses[i] = id.Address
	}
	b.clients, b.opened, err = floor.Connect(ctx, server, addresses, options...)
	return b, err
}

// broadcast sends everybody a message and returns how long it took until the
// last client had it.
func (b *base) broadcast(ctx context.Context, size int) (time.Duration, error) {
	b.messages++
	began := b.clients.Now()
	if _, err := fmt.Fprintln(b.lines, size); err != nil {
		return 0, fmt.Errorf("broadcast: %w", err)
	}
	last, err := b.clients.Await(ctx, b.messages)
	return last - began, err
}

func (b *base) close() error {
	if b.clients != nil {
		b.clients.Close()
	}
	return errors.Join(b.lines.Close(), b.cmd.Wait())
}
