// Package watch shows a fleet as it changes.
package watch

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// Options are how to watch.
type Options struct {
	// Parent is the namespace, namespaces/{namespace}, or namespaces/- for all.
	Parent string
	// Interval is how often to look.
	Interval time.Duration
	// Out is where to show it; Width and Height are the terminal's, 0 if it is none.
	Out           io.Writer
	Width, Height int
	// Now is the wall clock.
	Now func() time.Time
}

// Run watches until ctx ends, which is no error, or something fails that looking
// again does not help. What it started has ended when it returns.
func Run(ctx context.Context, conn session.Conn, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	denials := &denials{}
	var followed sync.WaitGroup
	followed.Go(func() { denials.follow(ctx, conn, o.Parent) })
	defer followed.Wait()
	defer cancel()
	ticker := time.NewTicker(o.Interval)
	defer ticker.Stop()
	var last *state
	began := o.Now()
	for {
		next, err := look(ctx, conn, o.Parent)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && last == nil:
			return err // there is nothing yet to go on with
		case err != nil:
			next = &state{lost: status.Convert(err).Message(), sidecars: last.sidecars, replicas: last.replicas, halts: last.halts, revision: last.revision}
		}
		now := o.Now()
		next.at, next.rate = now, denials.rate(now.Sub(began))
		began = now
		if err := show(o, last, next); err != nil {
			return err
		}
		last = next
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func show(o Options, last, next *state) error {
	if o.Width > 0 {
		return next.draw(o)
	}
	for _, line := range next.since(last) {
		if _, err := fmt.Fprintf(o.Out, "%s %s\n", next.at.Format(time.TimeOnly), output.Visible(line)); err != nil {
			return err
		}
	}
	return nil
}

// look asks for the fleet as it is.
func look(ctx context.Context, conn session.Conn, parent string) (*state, error) {
	sidecars, page, err := fleet.List(ctx, conn, parent)
	if err != nil {
		return nil, err
	}
	replicas, err := fleet.ListReplicas(ctx, conn)
	if err != nil {
		return nil, err
	}
	halts, err := fleet.ListHalts(ctx, conn)
	if err != nil {
		return nil, err
	}
	return &state{sidecars: sidecars, replicas: replicas, halts: halts, revision: page.GetRevision(), unreachable: page.GetUnreachableReplicas()}, nil
}

// denials counts denied calls. It may be used concurrently.
type denials struct {
	mu    sync.Mutex
	count int
	known bool
}

// again is how long after the records broke off they are followed again.
const again = time.Second

// follow counts until ctx ends.
func (d *denials) follow(ctx context.Context, conn session.Conn, parent string) {
	filter := &adminv1.DecisionFilter{Parent: parent, Verdict: decisionv1.Decision_DENY}
	for ctx.Err() == nil {
		stream, err := adminv1.NewDecisionsClient(conn).FollowDecisions(ctx, &adminv1.FollowDecisionsRequest{Filter: filter})
		for err == nil {
			var resp *adminv1.FollowDecisionsResponse
			d.set(true)
			if resp, err = stream.Recv(); err == nil && resp.GetRecord().GetDecision() != nil {
				d.add()
			}
		}
		d.set(false)
		if status.Code(err) == codes.PermissionDenied || status.Code(err) == codes.Unimplemented {
			return // that will not change while we watch
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

func (d *denials) add() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
}

func (d *denials) set(known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = known
}

// rate returns how many there were a second since it was asked last, and -1 if
// that is not known.
func (d *denials) rate(over time.Duration) float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.count
	d.count = 0
	if !d.known {
		return -1
	}
	return float64(n) / max(over.Seconds(), 0.001)
}
