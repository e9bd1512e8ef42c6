package controlplane

import (
	"context"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/enroll"
)

// sweep removes what enrolment left behind, from when the store is loaded until
// ctx ends, and says why that was.
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
	return enroll.NewSweeper(c.store, uidOf, time.Now, c.log).Run(ctx)
}
