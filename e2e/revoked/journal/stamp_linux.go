package journal

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stamped is a TCP connection that asks the kernel when the bytes arrived that
// it reads: on a busy machine that can be long before they are read.
type stamped struct {
	net.Conn

	raw syscall.RawConn // nil if the connection has no stamps

	mu sync.Mutex // guards at
	at time.Time  // when the newest byte that was read arrived
}

func newStamped(conn net.Conn) *stamped {
	s := &stamped{Conn: conn}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return s
	}
	raw, err := tcp.SyscallConn()
	if err == nil && askStamps(raw) == nil {
		s.raw = raw
	}
	return s
}

// prepare asks for stamps on all connections that a listener will accept. The
// kernel begins to take them a moment after the first socket asked.
func prepare(l net.Listener) error {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	return askStamps(raw)
}

func askStamps(raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	return errors.Join(err, set)
}

func (s *stamped) last() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// Read implements [net.Conn].
func (s *stamped) Read(b []byte) (int, error) {
	if s.raw == nil || len(b) == 0 {
		n, err := s.Conn.Read(b)
		s.stamp(time.Now())
		return n, err
	}
	var oob [64]byte
	var n, oobn int
	var err error
	waited := s.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), b, oob[:], unix.MSG_DONTWAIT)
			if err != unix.EINTR {
				break
			}
		}
		return err != unix.EAGAIN
	})
	switch {
	case waited != nil:
		return 0, waited
	case err != nil:
		return 0, os.NewSyscallError("recvmsg", err)
	case n == 0:
		return 0, io.EOF
	}
	s.stamp(arrival(oob[:oobn]))
	return n, nil
}

func (s *stamped) stamp(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = at
}

// arrival reads the kernel's stamp, or is now if there is none.
func arrival(oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			seconds, nanos := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			return time.Unix(int64(seconds), int64(nanos)) //nolint:gosec // the kernel's clock is in range
		}
	}
	return time.Now()
}
