package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// An Endpoint is where a sidecar that runs is reached, and by what secret.
type Endpoint struct {
	// URL is the scheme and address, or "unix:" and the path of a socket.
	URL string
	// Secret is new at each start of the sidecar.
	Secret string
}

// retry is how long to wait before the sidecar is looked for again.
const retry = 200 * time.Millisecond

// A Door is the way to the sidecar's local door. It finds the door again when
// the sidecar was started anew, and waits for a start. It is safe for concurrent
// use.
type Door struct {
	read     func() (Endpoint, error)
	advice   string
	patience time.Duration
	log      *slog.Logger
	client   http.Client

	mu    sync.Mutex
	known Endpoint // the zero Endpoint before it was read
}

// NewDoor returns a Door to the endpoint that read returns. advice says how the
// sidecar is started, and patience is how long a request waits for that.
func NewDoor(read func() (Endpoint, error), advice string, patience time.Duration, log *slog.Logger) *Door {
	d := &Door{read: read, advice: advice, patience: patience, log: log}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	d.client.Transport = &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if path, ok := strings.CutPrefix(d.endpoint().URL, "unix:"); ok {
				network, address = "unix", path
			}
			return dialer.DialContext(ctx, network, address)
		},
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
	d.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return d
}

// Close closes the connections that nobody uses.
func (d *Door) Close() { d.client.CloseIdleConnections() }

func (d *Door) endpoint() Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known
}

// look reads the endpoint anew, and reports whether it is another.
func (d *Door) look() (Endpoint, bool, error) {
	found, err := d.read()
	if err != nil {
		return Endpoint{}, false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := found != d.known
	d.known = found
	return found, changed, nil
}

// An absentError says that no sidecar answers.
type absentError struct {
	advice string
	cause  error
}

// Error returns what to do.
func (e *absentError) Error() string {
	return "The sidecar is not running (" + e.cause.Error() + "). Start it with: " + e.advice
}

// Unwrap returns the cause.
func (e *absentError) Unwrap() error { return e.cause }

// do sends a request to path. If there is no sidecar it waits for one, and if
// the secret is not the sidecar's any more it reads it again: nothing was acted
// on by then.
func (d *Door) do(ctx context.Context, method, path string, header http.Header, body []byte) (*http.Response, error) {
	deadline := time.Now().Add(d.patience)
	e := d.endpoint()
	var absent error
	if e.URL == "" {
		e, _, absent = d.look()
	}
	for {
		if absent == nil {
			resp, err := d.once(ctx, e, method, path, header, body)
			switch {
			case err == nil && resp.StatusCode == http.StatusUnauthorized:
				now, changed, lookErr := d.look()
				if lookErr != nil || !changed && now == e {
					return resp, nil
				}
				resp.Body.Close()
				e = now
				continue
			case err == nil:
				return resp, nil
			case ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case !refused(err):
				return nil, fmt.Errorf("ask the sidecar: %w", err)
			}
			absent = err
		}
		if time.Now().After(deadline) {
			return nil, &absentError{advice: d.advice, cause: absent}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(retry):
		}
		e, _, absent = d.look()
	}
}

// refused reports whether err says that no connection could be made, so that
// nothing has been sent.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func (d *Door) once(ctx context.Context, e Endpoint, method, path string, header http.Header, body []byte) (*http.Response, error) {
	base := e.URL
	if strings.HasPrefix(base, "unix:") {
		base = "http://localhost"
	}
	var content io.Reader
	if body != nil {
		content = strings.NewReader(string(body))
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+e.Secret)
	return d.client.Do(req)
}
