package launcher

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// The waits before a stream that broke off is opened again.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 10 * time.Second
)

// startListening begins to pass on what the server of the session says unasked,
// instead of that of an earlier session.
func (r *relay) startListening(ctx context.Context) {
	r.stopListening()
	ctx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	r.unlisten = cancel
	session := r.session
	r.mu.Unlock()
	r.tasks.Go(func() {
		defer cancel()
		r.listen(ctx, session)
	})
}

// stopListening ends what startListening began.
func (r *relay) stopListening() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unlisten != nil {
		r.unlisten()
		r.unlisten = nil
	}
}

// listen listens until ctx ends, the session is over, or the server turns out to
// say nothing unasked.
func (r *relay) listen(ctx context.Context, session string) {
	last, wait := "", firstWait
	for {
		h := r.header()
		if h.Get(headerSession) != session {
			return
		}
		if last != "" {
			h.Set(headerEvent, last)
		}
		resp, err := r.cfg.Door.do(ctx, http.MethodGet, r.path, h, nil)
		if err == nil {
			began := time.Now()
			goOn := true
			switch resp.StatusCode {
			case http.StatusOK:
				_, event, readErr := r.pass(ctx, nil, resp)
				err = readErr
				if event != "" {
					last = event
				}
			case http.StatusBadRequest:
				last = "" // what was missed cannot be had
			case http.StatusMethodNotAllowed:
				goOn = false
			default:
				goOn = resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests
			}
			resp.Body.Close()
			r.lost(ctx, resp)
			if !goOn {
				return
			}
			if time.Since(began) > lastWait {
				wait = firstWait
			}
		}
		r.log.DebugContext(ctx, "not listening", slog.Any("error", err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, lastWait)
	}
}
