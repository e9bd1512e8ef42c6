// Package wire reaches servers: it puts requests of which every byte is checked
// against their permits at the moment when it leaves.
package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/gated"
)

// newTransport returns how servers are reached. HTTP/1.1 only: a connection
// carries one request at a time, and when RoundTrip has returned for a request
// that was cut, the connection is closed and nothing more of the request can
// leave. Answers are not compressed, because they are read, and redirects are
// not followed by a transport.
func newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            dial,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		Protocols:              protocols,
	}
}

// A Launcher reaches the servers that are started by the sidecar instead of
// being reached over the network. It is called by many goroutines at once.
type Launcher interface {
	// RoundTrip serves req, which is streamable HTTP, in the place of server and
	// returns when there is an answer to read; the rest is read from its body,
	// under the context of req, and ends when that does. Directly before every
	// write to the server, and again after each wait for room, it must call pass
	// and write nothing if that returns an error, which is then the error of
	// RoundTrip. An error that has a method Sentence is told to the agent by it.
	RoundTrip(req *http.Request, server *grant.Server, pass func() error) (*http.Response, error)
}

// A Wire reaches every server of the catalogue. It is safe for concurrent use.
type Wire struct {
	transport *http.Transport
	launcher  Launcher
}

// New returns a Wire. launcher reaches the servers that are started; nil is none,
// and requests to them fail.
func New(launcher Launcher) *Wire { return &Wire{newTransport(), launcher} }

// Trust has w trust roots for servers. It is for tests.
func (w *Wire) Trust(roots *x509.CertPool) {
	w.transport.TLSClientConfig = &tls.Config{RootCAs: roots}
}

// Close closes the connections that are idle.
func (w *Wire) Close() { w.transport.CloseIdleConnections() }

// A Permit allows a request for as long as Recheck returns nil, which does not
// block.
type Permit interface{ Recheck() error }

// RoundTrip sends req to server and returns when it has begun to answer. Nothing
// of it is written unless, directly before, all of permits allow it. begun says
// whether anything may have left.
func (w *Wire) RoundTrip(req *http.Request, server *grant.Server, permits []Permit) (resp *http.Response, begun bool, err error) {
	g := &gate{permits: permits}
	if server.Message().GetStdio() != nil {
		if w.launcher == nil {
			return nil, false, errNotLaunched
		}
		resp, err = w.launcher.RoundTrip(req, server, g.pass)
		return resp, g.begun.Load(), err
	}
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn:     func(info httptrace.GotConnInfo) { g.guard(info.Conn) },
		PutIdleConn: func(error) { g.leave() },
	})
	resp, err = w.transport.RoundTrip(req.WithContext(ctx))
	return resp, g.begun.Load(), err
}

// errNotLaunched is for a server that would have to be started.
var errNotLaunched notLaunchedError

type notLaunchedError struct{}

func (notLaunchedError) Error() string {
	return "the server is one to start, and this sidecar starts none"
}

func (notLaunchedError) Sentence() string {
	return "is one that the sidecar would have to start, and this one starts none: it was told so by --launch=false."
}

// A gate is what one request has to pass, each time a piece of it is written.
type gate struct {
	permits []Permit
	// begun is set when the first piece has passed.
	begun atomic.Bool
	// conn is what the request is written to: another if it is tried again.
	conn atomic.Pointer[conn]
}

// pass returns why nothing may be written at this moment, or nil. It does not
// block.
func (g *gate) pass() error {
	for _, p := range g.permits {
		if err := p.Recheck(); err != nil {
			return err
		}
	}
	g.begun.Store(true)
	return nil
}

// guard puts the gate before a connection that the transport has chosen for the
// request and has not written to yet.
func (g *gate) guard(chosen net.Conn) {
	if secured, ok := chosen.(*tls.Conn); ok {
		chosen = secured.NetConn()
	}
	c := chosen.(*conn) // all are from dial
	c.gate.Store(g)
	g.conn.Store(c)
}

// leave takes the gate from a connection that is idle now, or has another
// already, so that the permits are not kept as long as the connection.
func (g *gate) leave() { g.conn.Load().gate.CompareAndSwap(g, nil) }

// A conn is a connection to a server. While there is a request on it, every
// write asks the gate of that request. For https this is below TLS: what is
// written without a gate is handshakes and goodbyes.
type conn struct {
	net.Conn // not a *net.TCPConn, whose ReadFrom would go past Write
	raw      syscall.RawConn
	gate     atomic.Pointer[gate]
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("dial %s: a %T has no descriptor", address, c)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return &conn{Conn: c, raw: raw}, nil
}

// Write writes b, and asks the gate before every
// write(2): see [gated.Write].
func (c *conn) Write(b []byte) (n int, err error) {
	g := c.gate.Load()
	if g == nil {
		return c.Conn.Write(b)
	}
	return gated.Write(c.raw, b, g.pass)
}
