// Package gated writes to a descriptor while it is allowed to: the one place where
// bytes leave the sidecar for a server.
package gated

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Write writes b, and asks pass directly before every write(2), also after it had
// to wait for room: whatever time passed until then, by a slow reader or because
// the process or the machine stood still, has been seen. It returns how much was
// written, and what pass said if it refused. A nil pass always agrees.
//
// What remains is the instant between the answer and the system call. A process
// that is stopped in just that instant hands what b was to the kernel when it goes
// on; nothing in a process can exclude that.
func Write(raw syscall.RawConn, b []byte, pass func() error) (n int, err error) {
	waitErr := raw.Write(func(fd uintptr) (done bool) {
		for n < len(b) {
			if pass != nil {
				if err = pass(); err != nil {
					return true
				}
			}
			var wrote int
			wrote, err = unix.Write(int(fd), b[n:]) // does not block
			switch {
			case err == nil:
				n += wrote
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				return false
			default:
				err = os.NewSyscallError("write", err)
				return true
			}
		}
		return true
	})
	if waitErr != nil {
		return n, waitErr
	}
	return n, err
}
