// Package journal is a tool server that does nothing but note, for every call
// that reaches it, which call it was and when its last byte arrived.
package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// An Arrival is a call that reached the server.
type Arrival struct {
	// ID is the call's own, from its arguments.
	ID string
	// Tool is what was called.
	Tool string
	// Time is when the kernel took the last of it from the network, whenever
	// this process got to read it.
	Time time.Time
}

// A Journal is a tool server's account. It may be used by many goroutines.
type Journal struct {
	mu       sync.Mutex // guards arrivals
	arrivals []Arrival
}

// Since returns what arrived after the first n arrivals.
func (j *Journal) Since(n int) []Arrival {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Arrival(nil), j.arrivals[min(n, len(j.arrivals)):]...)
}

func (j *Journal) note(a Arrival) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.arrivals = append(j.arrivals, a)
}

// message is what the server reads of a call.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string `json:"name"`
		Arguments struct {
			ID string `json:"id"`
		} `json:"arguments"`
	} `json:"params"`
}

type connKey struct{}

// Serve serves MCP without sessions until ctx ends, and then closes listener.
func (j *Journal) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: j, ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	if err := prepare(listener); err != nil {
		return fmt.Errorf("serve tools: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // the run is over
	defer stop()
	if err := server.Serve(stamping{listener}); ctx.Err() == nil {
		return fmt.Errorf("serve tools: %w", err)
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (j *Journal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return // it broke off: a call that did not arrive
	}
	arrived := time.Now()
	if conn, ok := r.Context().Value(connKey{}).(*stamped); ok {
		arrived = conn.last()
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		http.Error(w, "no JSON-RPC", http.StatusBadRequest)
		return
	}
	if m.Method != "tools/call" {
		http.Error(w, "only tools/call", http.StatusNotFound)
		return
	}
	j.note(Arrival{ID: m.Params.Arguments.ID, Tool: m.Params.Name, Time: arrived})
	w.Header().Set("Content-Type", "application/json")
	// An error means that the caller has gone away.
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","content":[{"type":"text","text":"done"}]}}`, m.ID)
}

// stamping is a listener whose connections know when their bytes arrived.
type stamping struct{ net.Listener }

// Accept implements [net.Listener].
func (s stamping) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newStamped(conn), nil
}
