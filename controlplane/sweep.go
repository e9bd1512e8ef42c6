package controlplane

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reeve-authz/reeve/controlplane/internal/claims"
	"github.com/reeve-authz/reeve/controlplane/internal/enroll"
)

// sweep removes what enrolment left behind, sessions that are over and counts that
// nobody draws from, from when the store is loaded until ctx ends, and says why
// that was.
func (c *ControlPlane) sweep(ctx context.Context) error {
	select {
	case <-c.snapshots.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	uidOf := func(agent string) string {
		newest, _ := c.snapshots.Newest()
		if view := newest.View(agent); view != nil {
			return view.UID()
		}
		return ""
	}
	over := func(before time.Time) []string {
		newest, _ := c.snapshots.Newest()
		return newest.SessionsOver(before)
	}
	sweepers, ctx := errgroup.WithContext(ctx)
	sweepers.Go(func() error { return enroll.NewSweeper(c.store, uidOf, time.Now, c.log).Run(ctx) })
	sweepers.Go(func() error { return claims.NewSweeper(c.store, over, time.Now, c.log).Run(ctx) })
	return sweepers.Wait()
}
