// Package wire is how a server speaks over its standard output and input: one
// JSON-RPC message a line. It is pure: it reads what it is given, and writes
// nothing.
package wire

import (
	"bytes"
	"fmt"
	"io"
)

const (
	firstBuffer = 8 << 10
	// keep is the size up to which a Reader keeps its buffer for the next line.
	keep = 64 << 10
	// edge is how much is kept of either end of a line that is too long.
	edge = 512
)

// A TooLongError is returned for a line that is longer than was allowed. The
// line has been skipped.
type TooLongError struct {
	// Head and Tail are how the line begins and ends.
	Head, Tail []byte
	// Limit is how long it could have been, in bytes.
	Limit int
}

// Error returns how long the line could have been.
func (e *TooLongError) Error() string {
	return fmt.Sprintf("a line is longer than %d bytes", e.Limit)
}

// A Reader reads lines. It is for one goroutine.
type Reader struct {
	in    io.Reader
	limit int
	err   error

	buf        []byte
	start, end int // what of buf was read and not yet used
}

// NewReader returns a Reader of lines of at most limit bytes without their end.
func NewReader(in io.Reader, limit int) *Reader {
	return &Reader{in: in, limit: limit}
}

// Next returns the next line without its end, which is a line feed, or a
// carriage return and a line feed. The line is valid until the next is read. At
// the end of the input it returns what is left, and then the input's error,
// io.EOF above all. After a *TooLongError, Next can be called again.
func (r *Reader) Next() ([]byte, error) {
	scanned := 0
	for {
		if i := bytes.IndexByte(r.buf[r.start+scanned:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : r.start+scanned+i]
			r.start += len(line) + 1
			if line = bytes.TrimSuffix(line, []byte{'\r'}); len(line) > r.limit {
				return nil, r.tooLong(line, nil)
			}
			return line, nil
		}
		scanned = r.end - r.start
		if scanned > r.limit+1 { // one more for a carriage return
			return nil, r.skip()
		}
		if r.err != nil {
			if scanned == 0 {
				return nil, r.err
			}
			line := r.buf[r.start:r.end]
			r.start = r.end
			if len(line) > r.limit {
				return nil, r.tooLong(line, nil)
			}
			return line, nil
		}
		r.fill()
	}
}

// skip reads on to the end of a line that is too long, and keeps its ends.
func (r *Reader) skip() error {
	var head, tail []byte
	for {
		rest := r.buf[r.start:r.end]
		i := bytes.IndexByte(rest, '\n')
		if i >= 0 {
			rest = rest[:i]
			r.start++ // the line feed
		}
		r.start += len(rest)
		head = append(head, rest[:min(len(rest), edge-len(head))]...)
		tail = append(tail, rest[max(0, len(rest)-edge):]...)
		tail = bytes.Clone(tail[max(0, len(tail)-edge):])
		if i >= 0 || r.err != nil {
			return r.tooLong(head, bytes.TrimSuffix(tail, []byte{'\r'}))
		}
		r.fill()
	}
}

// tooLong returns the error for a line with these ends; of a whole line, if tail
// is nil.
func (r *Reader) tooLong(line, tail []byte) error {
	if tail == nil {
		tail = bytes.Clone(line[max(0, len(line)-edge):])
	}
	return &TooLongError{Head: bytes.Clone(line[:min(len(line), edge)]), Tail: tail, Limit: r.limit}
}

// fill reads once, after making room.
func (r *Reader) fill() {
	used := r.end - r.start
	switch {
	case used == 0 && len(r.buf) > keep || r.buf == nil:
		r.buf, r.start, r.end = make([]byte, firstBuffer), 0, 0
	case r.start > 0:
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
