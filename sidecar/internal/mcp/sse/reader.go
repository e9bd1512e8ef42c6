// Package sse reads and writes server-sent events.
package sse

import (
	"bytes"
	"errors"
	"io"
	"strings"
)

// ErrTooLong is returned for an event that is longer than was allowed.
var ErrTooLong = errors.New("event is too long")

// An Event is one event of a stream.
type Event struct {
	// Name is the type of the event; empty means "message".
	Name string
	// ID is what a stream can be resumed after; empty if the event has none.
	ID string
	// Retry is how long to wait before reconnecting, in milliseconds and as it
	// was written; empty if the event does not say.
	Retry string
	// Data is the content; nil for what has none, such as a comment or an ID
	// alone, and nobody is told of that. It is valid until the next event is
	// read.
	Data []byte
	// Comment says that there was no event, only a sign of life.
	Comment bool
}

// keep is the size up to which a Reader keeps its buffers for the next stream.
const keep = 64 << 10

// A Reader reads the events of one stream after another.
type Reader struct {
	in    io.Reader
	limit int
	err   error

	buf        []byte
	start, end int // what of buf was read and not yet used
	skipLF     bool
	data       []byte
}

// Reset makes r read from in events of at most limit bytes.
func (r *Reader) Reset(in io.Reader, limit int) {
	buf, data := r.buf, r.data
	if cap(buf) > keep || cap(data) > keep {
		buf, data = nil, nil
	}
	if buf == nil {
		buf, data = make([]byte, 8<<10), []byte{}
	}
	*r = Reader{in: in, limit: limit, buf: buf, data: data[:0]}
}

// Ready reports whether the next event has arrived whole, so that Next will not
// wait for it.
func (r *Reader) Ready() bool {
	rest := bytes.TrimLeft(r.buf[r.start:r.end], "\r\n")
	return bytes.Contains(rest, []byte("\n\n")) || bytes.Contains(rest, []byte("\n\r\n")) || bytes.Contains(rest, []byte("\r\r"))
}

// Next returns the next event. At the end of the stream it returns io.EOF, and
// what had been begun counts as an event if it has data.
func (r *Reader) Next() (Event, error) {
	var (
		e      Event
		filled bool // anything but the data was set
		lines  int
		length int
	)
	r.data = r.data[:0]
	for {
		line, err := r.line(r.limit - length)
		length += len(line)
		switch {
		case err != nil && (!errors.Is(err, io.EOF) || lines == 0):
			return Event{}, err
		case err != nil, len(line) == 0 && (filled || lines > 0):
			if lines > 0 {
				e.Data = r.data
			}
			return e, nil
		case len(line) == 0:
			continue
		case line[0] == ':':
			if !filled && lines == 0 {
				return Event{Comment: true}, nil
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(name) {
		case "data":
			if lines > 0 {
				r.data = append(r.data, '\n')
			}
			r.data = append(r.data, value...)
			lines++
		case "event":
			e.Name, filled = string(value), true
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				e.ID, filled = string(value), true
			}
		case "retry":
			if len(value) > 0 && len(value) < 10 && len(bytes.Trim(value, "0123456789")) == 0 {
				e.Retry, filled = string(value), true
			}
		}
	}
}

// line returns the next line without its end, which is CR, LF or both. The
// line is valid until the next is read. At the end of the stream it returns
// what is left, and then io.EOF.
func (r *Reader) line(limit int) ([]byte, error) {
	scanned := 0
	for {
		if r.skipLF && r.start < r.end {
			if r.buf[r.start] == '\n' {
				r.start++
			}
			r.skipLF = false
		}
		if i := lineEnd(r.buf[r.start+scanned : r.end]); i >= 0 {
			line := r.buf[r.start : r.start+scanned+i]
			r.start += len(line) + 1
			r.skipLF = r.buf[r.start-1] == '\r'
			if len(line) > limit {
				return nil, ErrTooLong
			}
			return line, nil
		}
		scanned = r.end - r.start
		if scanned > limit {
			return nil, ErrTooLong
		}
		if r.err != nil {
			if errors.Is(r.err, io.EOF) && scanned > 0 {
				line := r.buf[r.start:r.end]
				r.start = r.end
				return line, nil
			}
			return nil, r.err
		}
		r.fill()
	}
}

// lineEnd returns the position of the first CR or LF, or -1.
func lineEnd(b []byte) int {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return bytes.IndexByte(b, '\r')
	}
	if j := bytes.IndexByte(b[:i], '\r'); j >= 0 {
		return j
	}
	return i
}

// fill reads once, after making room.
func (r *Reader) fill() {
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	n, err := r.in.Read(r.buf[r.end:])
	r.end += n
	r.err = err
}

// Append adds e to dst as it is sent: one line of data for each line of it, so
// that every reader sees the same lines. Line breaks in the other fields are
// left out.
func Append(dst []byte, e Event) []byte {
	if e.Comment {
		return append(dst, ":\n\n"...)
	}
	for _, f := range [...]struct{ name, value string }{{"event", e.Name}, {"id", e.ID}, {"retry", e.Retry}} {
		if f.value != "" {
			dst = append(dst, f.name...)
			dst = append(dst, ": "...)
			dst = append(dst, oneLine.Replace(f.value)...)
			dst = append(dst, '\n')
		}
	}
	if e.Data == nil {
		return append(dst, '\n')
	}
	data := e.Data
	for {
		line, rest, more := bytes.Cut(data, []byte{'\n'})
		dst = append(dst, "data: "...)
		dst = append(dst, line...)
		dst = append(dst, '\n')
		if !more {
			return append(dst, '\n')
		}
		data = rest
	}
}

var oneLine = strings.NewReplacer("\r", "", "\n", "")
