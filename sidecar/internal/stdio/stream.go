package stdio

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// maxQueued is how many bytes wait for a slow agent in one stream before the
// server is not read on.
const maxQueued = 1 << 20

// errGone says that nobody reads a stream any more.
var errGone = errors.New("nobody listens any more")

// An entry is a message for the agent. final says that nothing follows it, and
// failed that it is an error.
type entry struct {
	text          []byte
	final, failed bool
}

// A stream is a queue of messages for the agent. One goroutine puts and one
// gets; anybody may close it.
type stream struct {
	readable, writable chan struct{} // a token if it may be so

	mu     sync.Mutex
	queue  []entry
	size   int
	closed error // why there will be no more; nil before
}

func newStream() *stream {
	return &stream{readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put adds a message, and waits for room until give is closed. Of a stream that
// nobody reads any more nobody misses it.
func (s *stream) put(e entry, give <-chan struct{}) {
	for {
		if added, open := s.offer(e, false); added || !open {
			return
		}
		select {
		case <-s.writable:
		case <-give:
			return
		}
	}
}

// offer adds a message if there is room for it, or always.
func (s *stream) offer(e entry, always bool) (added, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return false, false
	}
	if !always && s.size > 0 && s.size+len(e.text) > maxQueued {
		return false, true
	}
	s.queue = append(s.queue, e)
	s.size += len(e.text)
	wake(s.readable)
	return true, true
}

// get returns the next message, or why there is none: what was queued before the
// stream was closed comes first.
func (s *stream) get(done <-chan struct{}, cause func() error) (entry, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			e := s.queue[0]
			s.queue[0] = entry{}
			s.queue = s.queue[1:]
			s.size -= len(e.text)
			wake(s.writable)
			s.mu.Unlock()
			return e, nil
		}
		closed := s.closed
		s.mu.Unlock()
		if closed != nil {
			return entry{}, closed
		}
		select {
		case <-s.readable:
		case <-done:
			return entry{}, cause()
		}
	}
}

// close ends the stream for this reason, once.
func (s *stream) close(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed == nil {
		s.closed = why
	}
	wake(s.readable)
	wake(s.writable)
}

// events is a stream as the body of an answer: server-sent events.
type events struct {
	stream *stream
	done   <-chan struct{}
	cause  func() error
	leave  func() // called once, at Close

	rest  []byte
	ended error
}

// newEvents returns the body that reads s under ctx. leave is called when it is
// closed.
func newEvents(ctx context.Context, s *stream, leave func()) *events {
	return &events{
		stream: s, done: ctx.Done(), cause: func() error { return context.Cause(ctx) },
		leave: sync.OnceFunc(leave),
	}
}

// Read reads the next piece of the stream.
func (e *events) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		if e.ended != nil {
			return 0, e.ended
		}
		next, err := e.stream.get(e.done, e.cause)
		if err != nil {
			e.ended = err
			return 0, err
		}
		e.add(next)
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func (e *events) add(next entry) {
	e.rest = append(append(append(e.rest[:0:0], "data: "...), next.text...), "\n\n"...)
	if next.final {
		e.ended = io.EOF
	}
}

// Close ends the reading.
func (e *events) Close() error {
	e.leave()
	return nil
}

// answer is an answer of status with a body of this type.
func answer(req *http.Request, status int, kind string, body io.ReadCloser) *http.Response {
	resp := &http.Response{
		Status:     strconv.Itoa(status) + " " + http.StatusText(status),
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: body, ContentLength: -1, Request: req,
	}
	if kind != "" {
		resp.Header.Set("Content-Type", kind)
	}
	return resp
}
