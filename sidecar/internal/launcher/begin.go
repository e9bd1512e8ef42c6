package launcher

import (
	"context"
	"time"

	"github.com/reeve-authz/reeve/sidecar/internal/stdio/wire"
)

// maxHeld is how many messages are held until initialize is answered, and maxBytes
// how many bytes of them. The next are not read before that.
const (
	maxHeld  = 256
	maxBytes = maxLine
)

// A beginning is an initialize in progress. What comes after it is of a session that
// has no name before the answer says it, so it is held until then.
type beginning struct {
	id   string
	done chan struct{} // closed when it was answered, or failed
}

// held is what waits, in the order in which it came.
type held struct {
	lines [][]byte
	bytes int
}

func (h *held) add(line []byte) {
	h.lines = append(h.lines, line)
	h.bytes += len(line)
}

func (h *held) full() bool { return len(h.lines) >= maxHeld || h.bytes >= maxBytes }

// serve takes lines until there are no more, and holds those that have to wait. At
// the end of the input it waits a little for that, too.
func (r *relay) serve(reading, working context.Context, lines <-chan []byte, ended <-chan error, fail func(error)) error {
	var (
		waiting held
		result  error
		late    <-chan time.Time // nil before the end of the input
	)
	for late == nil || len(waiting.lines) > 0 {
		in := lines
		if waiting.full() {
			in = nil
		}
		var err error
		select {
		case <-r.begun():
			err = r.release(working, &waiting)
		case line := <-in:
			if r.waits(line) {
				waiting.add(line)
			} else {
				err = r.take(working, line)
			}
		case result = <-ended:
			timer := time.NewTimer(patience)
			defer timer.Stop()
			late = timer.C
		case <-late:
			return result
		case <-reading.Done():
			return nil
		}
		if err != nil {
			fail(err)
			return err
		}
	}
	return result
}

// begun is closed when nothing has to wait any more; nil if nothing has to.
func (r *relay) begun() <-chan struct{} {
	if r.beginning == nil {
		return nil
	}
	return r.beginning.done
}

// waits reports whether a line has to wait: all do, but the client's word that it
// gives up.
func (r *relay) waits(line []byte) bool {
	if r.beginning == nil {
		return false
	}
	m, err := wire.Open(line)
	return err != nil || m.Method != "notifications/cancelled" || string(m.Cancelled.Text) != r.beginning.id
}

// release takes what waited, up to the next initialize, if there is one in it.
func (r *relay) release(ctx context.Context, waiting *held) error {
	r.beginning = nil
	for len(waiting.lines) > 0 && r.beginning == nil {
		line := waiting.lines[0]
		waiting.lines, waiting.bytes = waiting.lines[1:], waiting.bytes-len(line)
		if err := r.take(ctx, line); err != nil {
			return err
		}
	}
	return nil
}
