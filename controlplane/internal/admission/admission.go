// Package admission keeps a fleet that comes back at once from undoing itself.
//
// A handshake costs about half a millisecond of processor time. When thousands
// are worked on at the same time, all of them take as long as all together: every
// client gives up, comes back, and nobody is ever served. Here a few are worked on
// at a time, those that have begun first, and whoever has waited too long to be
// still there is turned away before anything was spent on it.
package admission

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// waitAtMost is how long a client waits for its handshake to begin. Sidecars give
// up a connection after 5 s.
const waitAtMost = 3 * time.Second

// errBusy tells nobody anything: the connection is closed, and its client tries
// again.
var errBusy = errors.New("too many handshakes are waiting")

// Limit returns credentials whose server works on so many handshakes at a time.
// A client that keeps a handshake waiting holds up nobody.
func Limit(c credentials.TransportCredentials, atOnce int) credentials.TransportCredentials {
	return limited{TransportCredentials: c, turns: &turns{free: max(1, atOnce)}}
}

type limited struct {
	credentials.TransportCredentials
	turns *turns
}

// ServerHandshake implements [credentials.TransportCredentials].
func (l limited) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c := &conn{Conn: raw, turns: l.turns}
	defer c.finish()
	return l.TransportCredentials.ServerHandshake(c)
}

// Clone implements [credentials.TransportCredentials].
func (l limited) Clone() credentials.TransportCredentials {
	return limited{TransportCredentials: l.TransportCredentials.Clone(), turns: l.turns}
}

// A conn holds a turn while its handshake works, and none while it waits for its
// peer. After the handshake it is the connection it is made of.
type conn struct {
	net.Conn
	turns *turns
	done  atomic.Bool // the handshake is over

	// The fields below are the handshake's, which reads and writes in turn.
	holds, begun bool
}

// Read implements [net.Conn].
func (c *conn) Read(b []byte) (int, error) {
	if c.done.Load() {
		return c.Conn.Read(b)
	}
	c.release()
	n, err := c.Conn.Read(b)
	if err != nil {
		return n, err
	}
	if err := c.turns.take(c.begun); err != nil {
		return 0, err
	}
	c.holds, c.begun = true, true
	return n, nil
}

func (c *conn) release() {
	if c.holds {
		c.holds = false
		c.turns.give()
	}
}

func (c *conn) finish() {
	c.release()
	c.done.Store(true)
}

// turns are given to those that have begun, then to the others, each in the
// order in which they came. They are safe for concurrent use.
type turns struct {
	mu             sync.Mutex
	free           int
	begun, waiting []chan struct{}
}

// take waits for a turn: at most waitAtMost for the first one of a handshake.
func (t *turns) take(begun bool) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{}, 1)
	if begun {
		t.begun = append(t.begun, mine)
		t.mu.Unlock()
		<-mine
		return nil
	}
	t.waiting = append(t.waiting, mine)
	t.mu.Unlock()

	timer := time.NewTimer(waitAtMost)
	defer timer.Stop()
	select {
	case <-mine:
		return nil
	case <-timer.C:
		return t.leave(mine)
	}
}

// leave gives up waiting, unless the turn has come in this moment.
func (t *turns) leave(mine chan struct{}) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.waiting {
		if other == mine {
			t.waiting = slices.Delete(t.waiting, i, i+1)
			return errBusy
		}
	}
	return nil
}

// give hands a turn on.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range []*[]chan struct{}{&t.begun, &t.waiting} {
		if len(*line) > 0 {
			(*line)[0] <- struct{}{} // it has room for one
			*line = (*line)[1:]
			return
		}
	}
	t.free++
}
