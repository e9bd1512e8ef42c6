package controlplane

import (
	"net/http"
	"net/http/pprof"

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
