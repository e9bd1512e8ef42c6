package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// seekBytes is how much of a segment is read at once to find a record in it.
// It is more than the largest frame.
const seekBytes = 256 << 10

// cursor is an open segment and where in it the reader will go on.
type cursor struct {
	file     *os.File
	path     string
	sequence int64 // of the record at offset
	offset   int64
}

func (c *cursor) close() {
	if c.file != nil {
		c.file.Close() //nolint:errcheck // It was only read.
	}
	*c = cursor{}
}

// Read returns records in order from sequence from on: at most limit of them,
// of at most size bytes together, but at least one if there is one. The slices
// are the caller's. An error that wraps ErrDamaged says that the record at from
// cannot be read.
func (s *Spool) Read(from int64, limit, size int) ([][]byte, error) {
	g, ok, err := s.segmentOf(from)
	if !ok {
		return nil, err
	}
	if err := s.cursor.seek(g, from); err != nil {
		return nil, err
	}
	size = min(max(size, headerSize+MaxRecord), int(g.size-s.cursor.offset))
	b := make([]byte, size)
	if _, err := s.cursor.file.ReadAt(b, s.cursor.offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read segment: %w", err)
	}
	var records [][]byte
	for len(records) < limit && len(b) > 0 {
		record, rest, err := next(b)
		if err != nil {
			if len(records) == 0 {
				return nil, fmt.Errorf("%w: record %d: %w", ErrDamaged, from, err)
			}
			break // It is whole in the next read, or damaged there.
		}
		records = append(records, record)
		s.cursor.offset += int64(len(b) - len(rest))
		b = rest
	}
	s.cursor.sequence = from + int64(len(records))
	return records, nil
}

// segmentOf returns the segment that holds a record; false if there is no such
// record yet.
func (s *Spool) segmentOf(sequence int64) (segment, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sequence > s.last {
		return segment{}, false, nil
	}
	i, found := slices.BinarySearchFunc(s.segments, sequence, func(g segment, at int64) int {
		switch {
		case g.last < at:
			return -1
		case g.first > at:
			return 1
		}
		return 0
	})
	if !found {
		return segment{}, false, fmt.Errorf("%w: record %d was acknowledged", ErrGone, sequence)
	}
	return s.segments[i], true, nil
}

// seek puts the cursor before a record of g.
func (c *cursor) seek(g segment, sequence int64) error {
	if c.path != g.path || c.sequence > sequence {
		c.close()
		f, err := os.Open(g.path)
		if err != nil {
			return fmt.Errorf("open segment: %w", err)
		}
		*c = cursor{file: f, path: g.path, sequence: g.first, offset: int64(len(magic))}
	}
	for c.sequence < sequence {
		b := make([]byte, min(seekBytes, g.size-c.offset))
		if _, err := c.file.ReadAt(b, c.offset); err != nil {
			return fmt.Errorf("read segment: %w", err)
		}
		from := c.sequence
		for c.sequence < sequence {
			record, rest, err := next(b)
			if errors.Is(err, errTorn) && c.sequence > from {
				break // It is whole in the next chunk, or damaged there.
			}
			if err != nil {
				return fmt.Errorf("%w: record %d: %w", ErrDamaged, c.sequence, err)
			}
			c.offset += int64(headerSize + len(record))
			c.sequence++
			b = rest
		}
	}
	return nil
}
