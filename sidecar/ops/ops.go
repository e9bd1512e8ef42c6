// Package ops is what a process tells its operator: its log, its metrics,
// whether it lives and whether it is ready.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// checkWithin is how long all checks together may take.
const checkWithin = 2 * time.Second

// A Check is one named thing a process needs before it is ready.
type Check struct {
	// Name is what the check is called in /readyz.
	Name string
	// Ready returns nil, or what is missing, before ctx ends. It may be called
	// by several goroutines at once.
	Ready func(ctx context.Context) error
}

// Handler serves /healthz, which answers 200 while the process serves at all;
// /readyz, which answers 200 when every check is ready and 503 with what is
// missing otherwise; and /metrics.
func Handler(checks []Check, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkWithin)
		defer cancel()
		code, status := http.StatusOK, make(map[string]string, len(checks))
		for _, c := range checks {
			status[c.Name] = "ok"
			if err := c.Ready(ctx); err != nil {
				code, status[c.Name] = http.StatusServiceUnavailable, err.Error()
			}
		}
		answer(w, code, status)
	})
	mux.Handle("GET /metrics", metrics)
	return mux
}

func answer(w http.ResponseWriter, code int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the caller has gone; there is nobody to tell
}

// Serve answers on listener with handler until ctx ends, then lets what is
// being answered finish for up to drain. It closes listener, and returns when
// every connection is done with. Requests are limited in size and time.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, drain time.Duration, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if server.Shutdown(deadline) != nil {
			_ = server.Close() // it is late already; the listener is closed either way
		}
	})
	err := server.Serve(listener)
	if stop() {
		_ = server.Close() // Serve failed by itself: its error is the one to tell
	} else {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", listener.Addr(), err)
}
