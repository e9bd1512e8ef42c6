// Package spool keeps a sidecar's records in files until the control plane has
// them. A record that Append has accepted is in the kernel: it survives the
// death of any process, though not a loss of power.
package spool

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Defaults of Config.
const (
	defaultMaxBytes     = 1 << 30
	defaultSegmentBytes = 4 << 20
)

var (
	// ErrFull is returned when the spools have reached the size they may have.
	ErrFull = errors.New("spool full")
	// ErrDamaged is returned when records are not as they were written.
	ErrDamaged = errors.New("spool damaged")
	// ErrGone is returned when records are to be read that were acknowledged and
	// are deleted.
	ErrGone = errors.New("records deleted")
	// errSealed is returned by Append on a spool that takes no more records.
	errSealed = errors.New("spool sealed")
)

// Config says where spools are and how large they may grow.
type Config struct {
	// Dir holds one directory per instance. It is made if it is missing.
	Dir string
	// Instance is the id of this boot: 32 lower-case hexadecimal digits.
	Instance string
	// MaxBytes is the size of all spools in Dir together; 0 is 1 GiB.
	MaxBytes int64
	// SegmentBytes is the size at which a new file is begun; 0 is 4 MiB. What is
	// acknowledged is deleted by the file.
	SegmentBytes int64

	// create makes a segment's file; tests make it fail.
	create func(path string) (file, error)
}

// file is what a spool needs of the file it appends to.
type file interface {
	Write(b []byte) (int, error)
	Truncate(size int64) error
	Close() error
}

// An Entry becomes a record once its place in the log is known.
type Entry interface {
	// AppendRecord appends the record for a place in the log to dst. previous
	// is the SHA-256 of the record before, empty for the first; it is only
	// valid during the call.
	AppendRecord(dst []byte, sequence int64, previous []byte) ([]byte, error)
}

// A Spool is the log of one instance: records numbered from 1.
//
// Append may be called concurrently with everything. Read, Acknowledge and
// Close belong to one reader.
type Spool struct {
	instance string
	dir      string
	cfg      Config
	lock     *os.File // holds other processes off dir
	quota    *quota
	appended chan struct{}

	// mu guards the fields below.
	mu       sync.Mutex
	segments []segment // in order; the last is appended to
	active   file      // of the last segment; nil if none or sealed
	last     int64
	digest   [sha256.Size]byte // of record last
	buf      []byte
	failed   error // set once nothing can be appended any more
	damaged  bool  // the records end in damage
	closed   bool

	acknowledged atomic.Int64

	// cursor is the reader's.
	cursor cursor
}

// segment is one file of a spool.
type segment struct {
	path        string
	first, last int64 // last < first: no records yet
	size        int64 // of the magic and whole frames
}

// quota is the room that all spools of a directory share.
type quota struct {
	limit int64
	used  atomic.Int64
}

// Instance returns the id of the boot whose records these are.
func (s *Spool) Instance() string { return s.instance }

// Appended receives after records were appended; one signal may stand for
// many.
func (s *Spool) Appended() <-chan struct{} { return s.appended }

// Last returns the sequence of the newest record; 0 if there is none.
func (s *Spool) Last() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Acknowledged returns the newest sequence that was acknowledged.
func (s *Spool) Acknowledged() int64 { return s.acknowledged.Load() }

// Append writes e as the next record and returns its sequence. When it
// returns without error, the record outlives this process; when it returns an
// error, the log is as if Append had not been called. keep is how many bytes of
// the permitted size must stay free for others.
func (s *Spool) Append(e Entry, keep int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return 0, s.failed
	}
	previous := s.digest[:]
	if s.last == 0 {
		previous = nil
	}
	sequence := s.last + 1
	frame, err := e.AppendRecord(s.buf[:headerSize], sequence, previous)
	if err != nil {
		return 0, fmt.Errorf("encode record %d: %w", sequence, err)
	}
	s.buf = frame[:0]
	record := frame[headerSize:]
	if len(record) == 0 || len(record) > MaxRecord {
		return 0, fmt.Errorf("record %d has %d bytes: a record has 1 to %d", sequence, len(record), MaxRecord)
	}
	size := int64(len(frame))
	if s.quota.used.Load()+size+keep > s.quota.limit {
		return 0, fmt.Errorf("%w: %d bytes are not acknowledged yet", ErrFull, s.quota.used.Load())
	}
	if err := s.rotate(sequence, size); err != nil {
		return 0, err
	}
	seal(frame)
	g := &s.segments[len(s.segments)-1]
	if _, err := s.active.Write(frame); err != nil {
		return 0, s.rollBack(g, err)
	}
	g.size += size
	g.last = sequence
	s.quota.used.Add(size)
	s.last = sequence
	s.digest = sha256.Sum256(record)
	select {
	case s.appended <- struct{}{}:
	default:
	}
	return sequence, nil
}

// rollBack takes what a failed write may have left off the end of g, so that
// the next record continues the log.
func (s *Spool) rollBack(g *segment, cause error) error {
	err := fmt.Errorf("append record: %w", cause)
	if undo := s.active.Truncate(g.size); undo != nil {
		s.failed = fmt.Errorf("%w; and its remains could not be removed, so nothing more can be appended until the sidecar is restarted: %w", err, undo)
		return s.failed
	}
	return err
}

// rotate makes sure that the last segment takes size bytes, beginning with
// record first.
func (s *Spool) rotate(first, size int64) error {
	if n := len(s.segments); s.active != nil && s.segments[n-1].size+size <= s.cfg.SegmentBytes {
		return nil
	}
	path := filepath.Join(s.dir, segmentName(first))
	f, err := s.cfg.create(path)
	if err != nil {
		return fmt.Errorf("begin segment: %w", err)
	}
	if _, err := f.Write([]byte(magic)); err != nil {
		return errors.Join(fmt.Errorf("begin segment: %w", err), f.Close(), os.Remove(path))
	}
	if s.active != nil {
		if err := s.active.Close(); err != nil {
			return errors.Join(fmt.Errorf("end segment: %w", err), f.Close(), os.Remove(path))
		}
	}
	s.active = f
	s.segments = append(s.segments, segment{path: path, first: first, last: first - 1, size: int64(len(magic))})
	s.quota.used.Add(int64(len(magic)))
	return nil
}

// Acknowledge says that every record up to sequence is stored elsewhere: files
// that hold no others are deleted.
func (s *Spool) Acknowledge(sequence int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sequence > s.last {
		return fmt.Errorf("acknowledge record %d of %d", sequence, s.last)
	}
	if sequence <= s.acknowledged.Load() {
		return nil
	}
	s.acknowledged.Store(sequence)
	for len(s.segments) > 1 && s.segments[0].last <= sequence {
		if err := s.drop(); err != nil {
			return err
		}
	}
	return nil
}

// drop deletes the first segment.
func (s *Spool) drop() error {
	g := s.segments[0]
	if err := os.Remove(g.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete segment: %w", err)
	}
	s.quota.used.Add(-g.size)
	s.segments = s.segments[1:]
	return nil
}

// Close ends the spool. If all of its records are acknowledged its directory
// is deleted; if it is damaged the directory is set aside, out of the reach of
// Open, for a person to look at.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed, s.failed = true, errSealed
	var errs []error
	if s.active != nil {
		errs = append(errs, s.active.Close())
		s.active = nil
	}
	s.cursor.close()
	switch {
	case s.acknowledged.Load() < s.last:
	case s.damaged:
		errs = append(errs, os.Rename(s.dir, s.dir+".damaged"))
	default:
		errs = append(errs, os.RemoveAll(s.dir))
	}
	errs = append(errs, s.lock.Close())
	return errors.Join(errs...)
}
