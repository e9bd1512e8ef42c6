package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/reeve-authz/reeve/sidecar/ops"
)

// opsHandler is what the operators' listener serves: health, readiness and
// metrics, and profiles if they were asked for.
func (c *ControlPlane) opsHandler() http.Handler {
	handler := ops.Handler(c.checks(), c.telemetry.Metrics)
	if !c.cfg.OpsPprof {
		return handler
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("/", handler)
	return mux
}

// storeWithin is how long the store may take to answer a control plane that is
// ready: less than the second or more that probes are given.
const storeWithin = 900 * time.Millisecond

// checks are what the control plane needs to be ready.
func (c *ControlPlane) checks() []ops.Check {
	return []ops.Check{
		{Name: "store", Ready: func(ctx context.Context) error {
			select {
			case <-c.snapshots.Ready():
			default:
				return errors.New("the store is not loaded yet")
			}
			ctx, cancel := context.WithTimeout(ctx, storeWithin)
			defer cancel()
			if _, err := c.store.Head(ctx); err != nil {
				return fmt.Errorf("the store does not answer: %w", err)
			}
			return nil
		}},
		{Name: "records", Ready: c.audit.Check},
		{Name: "identity", Ready: func(context.Context) error {
			_, err := c.source.GetX509SVID()
			return err
		}},
	}
}
