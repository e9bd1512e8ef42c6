package supervisor

import "syscall"

// An order is what the sidecar writes: first what to start, then signals.
type order struct {
	Start  *line          `json:"start,omitempty"`
	Signal syscall.Signal `json:"signal,omitempty"`
}

// A line is what to start. Its texts are bytes, since JSON would change what is
// not UTF-8.
type line struct {
	Path, Dir []byte
	Args, Env [][]byte
	As        *syscall.Credential
}

// A report is what the supervisor writes: first how the start went, then how the
// server ended, then, before its own end, what is left.
type report struct {
	PID   int           `json:"pid,omitempty"`
	Errno syscall.Errno `json:"errno,omitempty"`
	// Ended is how the server ended. Until it is written, no other process can
	// have the server's number.
	Ended *syscall.WaitStatus `json:"ended,omitempty"`
	// Left is how many processes the supervisor may not kill.
	Left int `json:"left,omitempty"`
}

func toBytes(texts []string) [][]byte {
	all := make([][]byte, len(texts))
	for i, t := range texts {
		all[i] = []byte(t)
	}
	return all
}

func toText(all [][]byte) []string {
	texts := make([]string, len(all))
	for i, b := range all {
		texts[i] = string(b)
	}
	return texts
}
