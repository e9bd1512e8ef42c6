package journal

import (
	"net"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
)

// embedded is the server in this process, which one keeper replaces. What is
// connected to it connects again by itself. Safe for concurrent use.
type embedded struct{ current atomic.Pointer[server.Server] }

func newEmbedded(s *server.Server) *embedded {
	e := new(embedded)
	e.current.Store(s)
	return e
}

// InProcessConn implements [github.com/nats-io/nats.go.InProcessConnProvider].
func (e *embedded) InProcessConn() (net.Conn, error) { return e.now().InProcessConn() }

// now returns the server, which may have been stopped.
func (e *embedded) now() *server.Server { return e.current.Load() }

func (e *embedded) replace(s *server.Server) { e.current.Store(s) }

// stop stops the server, and waits until it has. It may be called again.
func (e *embedded) stop() {
	s := e.now()
	s.Shutdown()
	s.WaitForShutdown()
}
