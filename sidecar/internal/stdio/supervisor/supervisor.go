// Package supervisor is the process that stands between the sidecar and a server
// on Linux. It is the sidecar's own program in another role: it starts the
// server, is the parent of whatever of the server's processes has lost its own,
// and kills all of them when the server has ended, when it is told to, or when
// the sidecar is gone, however that went.
//
// What the server reads and writes passes it by: the server has the pipes, and
// the supervisor keeps no end of them. It talks with the sidecar over a socket,
// whose end is the end of the sidecar.
package supervisor

import (
	"errors"
	"sync/atomic"
)

// ErrNone is wrapped by errors about a supervisor, and not about the server that
// it was to start.
var ErrNone = errors.New("the server has no supervisor")

// argument is the first argument of the program in this role.
const argument = "supervise"

// asked says that this program asks whether it was called. One that does not
// would be started as itself, and perhaps again by that, without end.
var asked atomic.Bool

// Called reports whether the program was started to be a supervisor, by its
// arguments. Then it must do nothing but Main. A program that has not asked this
// can start no server.
func Called(args []string) bool {
	asked.Store(true)
	return len(args) == 2 && args[1] == argument
}
